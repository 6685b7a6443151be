import { readdirSync, readFileSync } from 'node:fs';
import { join, posix, resolve } from 'node:path';

export const ROOT = resolve(import.meta.dirname, '../..');

/** A file of this repository. */
export interface SourceFile {
  /** From the root of the repository. */
  readonly path: string;
  readonly text: string;
  /** The text without comments, and without the text of strings. */
  readonly code: string;
  /** Paths of the files that it imports or starts as threads. */
  readonly files: readonly string[];
  /** What else it imports: packages and modules of Node, as it names them. */
  readonly packages: readonly string[];
}

/** All files with TypeScript or JavaScript below these folders of the repository. */
export function readSources(...folders: readonly string[]): SourceFile[] {
  return folders.flatMap((folder) =>
    readdirSync(join(ROOT, folder), { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile() && /\.m?ts$|\.mjs$/.test(entry.name))
      .map((entry) => {
        const path = join(entry.parentPath, entry.name);
        return parseSource(path.slice(ROOT.length + 1), readFileSync(path, 'utf8'));
      }),
  );
}

const IMPORTS = [
  /(?:^|\s)(?:import|export)\s[^;'"]*?from\s+'([^']+)'/gm,
  /^import\s+'([^']+)'/gm,
  /\b(?:import|require)\(\s*'([^']+)'/g,
  /\bnew URL\(\s*'(\.[^']+)',\s*import\.meta\.url/g,
];

export function parseSource(path: string, text: string): SourceFile {
  const specifiers = IMPORTS.flatMap((pattern) =>
    Array.from(text.matchAll(pattern), (match) => match[1] ?? ''),
  );
  const isFile = (specifier: string): boolean => specifier.startsWith('.');
  const files = specifiers.filter(isFile).map((specifier) => posix.join(posix.dirname(path), specifier));
  const packages = specifiers.filter((specifier) => !isFile(specifier));
  return { path, text, code: codeOf(text), files, packages };
}

/** What stands in `${}` of a template is code; regular expressions are left as they are. */
function codeOf(text: string): string {
  return text.replaceAll(
    /\/\*[^]*?\*\/|(?<![:\\/])\/\/.*$|'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"|`(?:\\.|[^`\\])*`/gm,
    (match) => (match.startsWith('`') ? Array.from(match.matchAll(/\$\{[^}]*\}/g), String).join(' ') : "''"),
  );
}
