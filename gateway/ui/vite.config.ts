import { defineConfig } from "vite";

// Relative addresses: the page works under any path of a reverse proxy.
export default defineConfig({
  base: "./",
  build: {
    target: "es2022",
    assetsDir: "ui",
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
  },
});
