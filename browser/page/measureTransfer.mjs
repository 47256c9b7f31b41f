// Fails when what a first visit transfers of the page in DIRECTORY, compressed by brotli, is more than it may weigh.
// node measureTransfer.mjs [DIRECTORY]
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { brotliCompressSync, constants } from "node:zlib";

const LIMIT_BYTES = 100 * 1024;
const SERVED = /\.(html|css|js|svg|woff2)$/;
const page = process.argv[2] ?? fileURLToPath(new URL("../../session_service/api/page", import.meta.url));

const sizes = readdirSync(page, { recursive: true })
  .filter((name) => SERVED.test(name))
  .map((name) => ({ name, bytes: compressedBytes(readFileSync(join(page, name))) }));
const total = sizes.reduce((sum, { bytes }) => sum + bytes, 0);

for (const { name, bytes } of sizes) console.log(`${String(bytes).padStart(7)}  ${name}`);
console.log(`${String(total).padStart(7)}  bytes in all, of at most ${LIMIT_BYTES}`);
if (total === 0 || total > LIMIT_BYTES) {
  console.error(total === 0 ? "Nothing was built." : `The page weighs ${total - LIMIT_BYTES} bytes too much.`);
  process.exit(1);
}

function compressedBytes(content) {
  return brotliCompressSync(content, { params: { [constants.BROTLI_PARAM_QUALITY]: 11 } }).length;
}
