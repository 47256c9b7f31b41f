// Writes the brotli and gzip forms of a built page beside its files, so that nothing is compressed when it is served.
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";

const TEXT = /\.(html|css|js|json|svg)$/;
const WORTH_IT_BYTES = 256; // a smaller file fits into one packet as it is

const page = process.argv[2];
if (page === undefined) {
  console.error("usage: node compress.mjs DIRECTORY");
  process.exit(2);
}
for (const name of readdirSync(page, { recursive: true }).filter((name) => TEXT.test(name))) {
  const file = join(page, name);
  const content = readFileSync(file);
  if (content.length < WORTH_IT_BYTES) continue;
  const forms = { br: brotli(content), gz: gzipSync(content, { level: 9 }) };
  for (const [suffix, form] of Object.entries(forms)) {
    if (form.length < content.length) writeFileSync(`${file}.${suffix}`, form);
  }
}

function brotli(content) {
  const params = {
    [constants.BROTLI_PARAM_MODE]: constants.BROTLI_MODE_TEXT,
    [constants.BROTLI_PARAM_QUALITY]: constants.BROTLI_MAX_QUALITY,
    [constants.BROTLI_PARAM_SIZE_HINT]: content.length,
  };
  return brotliCompressSync(content, { params });
}
