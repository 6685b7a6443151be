// Part of `npm run check:format`: code, comments and titles of tests stay within 110 columns. The formatter
// breaks lines, but neither comments nor strings.
import { readdirSync, readFileSync } from 'node:fs';
import { join, relative, resolve } from 'node:path';

const ROOT = resolve(import.meta.dirname, '..');
const COLUMNS = 110;
const FOLDERS = ['src', 'scripts', 'load', 'test'];
const EXTENSIONS = /\.(ts|mjs|py)$/;
/** Generated, or input of tests. */
const SKIPPED = /^(test\/fixtures|load\/results)\//;

/** A line that cannot be shorter: a single long word, such as a URL or a regular expression. */
function isUnbreakable(line) {
  const indent = line.length - line.trimStart().length;
  return line.split(/\s+/).some((word) => indent + word.length > COLUMNS);
}

/** Strings of tests are often input, which must not change. Their titles are prose. */
function isInput(path, line) {
  return path.startsWith('test/') && !/^\s*(\*|\/\/|\/\*|(it|test|describe)\b|\]\)\()/.test(line);
}

const files = FOLDERS.flatMap((folder) =>
  readdirSync(join(ROOT, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && EXTENSIONS.test(entry.name))
    .map((entry) => relative(ROOT, join(entry.parentPath, entry.name))),
);
const tooLong = files
  .filter((path) => !SKIPPED.test(path))
  .flatMap((path) =>
    readFileSync(join(ROOT, path), 'utf8')
      .split('\n')
      .map((line, index) => ({ path, line, number: index + 1 })),
  )
  .filter(({ path, line }) => line.length > COLUMNS && !isUnbreakable(line) && !isInput(path, line));

for (const { path, line, number } of tooLong)
  console.error(`${path}:${number}: ${line.length} columns, ${COLUMNS} are allowed`);
process.exitCode = tooLong.length === 0 ? 0 : 1;
