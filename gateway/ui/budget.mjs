// Fails the build when what a browser loads is larger than promised.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";

const MOST_BYTES = 120 * 1024;
const files = readdirSync("dist", { recursive: true, withFileTypes: true }).filter((item) => item.isFile());
const sizes = files.map((item) => gzipSync(readFileSync(join(item.parentPath, item.name))).length);
const total = sizes.reduce((sum, size) => sum + size, 0);
console.log(`page: ${(total / 1024).toFixed(1)} KB gzipped, at most ${MOST_BYTES / 1024}`);
if (total > MOST_BYTES) process.exit(1);
