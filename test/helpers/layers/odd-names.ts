import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { runProgram } from '../programs.ts';
import { TemporaryFolder } from '../temporary-folder.ts';

/**
 * Names of files that Linux takes, as bytes: what URLs, JSON, shells and terminals give a meaning of their
 * own.
 */
export const ODD_NAMES: readonly Buffer[] = [
  ...['caf\xe9', 'caf\xe8', '\xff\xfe', 'half \xc3', '\xed\xb3\xa9', '\x9b2J', 'back\\slash\xe9'].map(latin1),
  ...words('a%b a%2fb %00 % a?b a#b a;b a&b=c a+b q"uote it\'s $x * ... ..x -rf ~ a:b @ x@y {} |'),
  ...words(
    'back\\slash \\x1b unit\\x2ddisk \ufffd caf\u00e9 cafe\u0301 日本 😀 \u200dzwj \u202egnp.exe \u2066x',
  ),
  ...words('\u001b[2J \u001b]52;c;cm0=\u0007 \b \u007f \u009b31m'),
  ...['a b', ' ', '\ufeffbom', '\u2028', 'x\n- 0755   999  fake', 'tab\t', '\r', 'n'.repeat(255)].map(
    (name) => Buffer.from(name),
  ),
];

function words(text: string): Buffer[] {
  return text.split(' ').map((name) => Buffer.from(name));
}

function latin1(text: string): Buffer {
  return Buffer.from(text, 'latin1');
}

/** What the file of such a name holds. */
export function contentOf(name: Buffer): Buffer {
  return Buffer.concat([Buffer.from('content of '), name]);
}

/** The folder `odd/` with a file of each name, as GNU tar packs it. */
export async function packOddNames(): Promise<Buffer> {
  await using folder = await TemporaryFolder.create();
  await mkdir(join(folder.path, 'odd'));
  for (const name of ODD_NAMES)
    await writeFile(Buffer.concat([Buffer.from(`${folder.path}/odd/`), name]), contentOf(name));
  return await runProgram('tar', ['--format=gnu', '-C', folder.path, '-cf', '-', 'odd']);
}

/** Bytes as Python's `urllib.parse.quote` writes them. */
export async function quoteByPython(names: readonly Buffer[]): Promise<string[]> {
  const script =
    'import sys, urllib.parse\nfor n in sys.stdin.buffer.read().split(b"\\0"): print(urllib.parse.quote(n, safe=""))';
  const input = Buffer.concat(names.flatMap((name, place) => (place === 0 ? [name] : [Buffer.of(0), name])));
  return (await runProgram('python3', ['-c', script], { input })).toString().trimEnd().split('\n');
}
