import { fileURLToPath } from "node:url";
import { defaultClientConditions, defaultServerConditions, defineConfig } from "vite";

// Pods serve exactly what stands in outDir: the document at "/", hashed files at "/assets/…".
export default defineConfig({
  base: "/",
  publicDir: false,
  // The library's own sources: the page is built in one step, and no code stands twice.
  resolve: { conditions: ["source", ...defaultClientConditions] },
  // The same for the tests, which run in Node.js.
  ssr: { resolve: { conditions: ["source", ...defaultServerConditions] } },
  build: {
    outDir: fileURLToPath(new URL("../../session_service/api/page", import.meta.url)),
    emptyOutDir: true,
    assetsDir: "assets",
    target: "es2022",
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0,
    reportCompressedSize: false,
  },
});
