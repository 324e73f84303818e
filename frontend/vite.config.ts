import { svelte } from "@sveltejs/vite-plugin-svelte";
import { loadEnv } from "vite";
import { defineConfig } from "vitest/config";

// Where `npm run dev` finds a running `persona-steer serve`; the door lets in its own origin only.
const target = loadEnv("", new URL(".", import.meta.url).pathname).VITE_API ?? "http://127.0.0.1:8642";
const proxy = { target, changeOrigin: true, headers: { origin: target }, ws: true };

// The built page is committed, so its files keep their names; the server has browsers revalidate them.
export default defineConfig({
  plugins: [svelte()],
  base: "./",
  build: {
    outDir: "../src/persona_steering/server/static",
    emptyOutDir: true,
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0,
    rolldownOptions: {
      output: {
        entryFileNames: "assets/[name].js",
        chunkFileNames: "assets/[name].js",
        assetFileNames: "assets/[name][extname]",
      },
    },
  },
  server: { proxy: { "/api": proxy, "/v1": proxy } },
  test: { include: ["src/**/*.test.ts"] },
});
