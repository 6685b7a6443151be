import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';

import { beforeAll, describe, expect, it } from 'vitest';

import { cleanup } from '../helpers/cleanup.ts';
import { KnownRepository, manifestBytes, OCI_MANIFEST } from '../helpers/images/known-repository.ts';
import { contentOf, ODD_NAMES, packOddNames, quoteByPython } from '../helpers/layers/odd-names.ts';
import { runProgram } from '../helpers/programs.ts';
import { SpandrelProcess } from '../helpers/spandrel-process.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';

const MAIN = new URL('../../src/cli/bin.ts', import.meta.url).pathname;
/** Text that a terminal shows as one line: no control or format character, no line separator. */
const HARMLESS = /^[^\p{Cc}\p{Cf}\p{Zl}\p{Zp}]*$/u;

let known: KnownRepository;
let scratch: string;

beforeAll(async () => {
  known = cleanup.use(await KnownRepository.start());
  scratch = await temporaryFolder();
  const blob = new Uint8Array(gzipSync(await packOddNames()));
  const digest = await known.upstream.addBlob('team/app', blob);
  const mediaType = 'application/vnd.oci.image.layer.v1.tar+gzip';
  const layers = [{ mediaType, digest, size: blob.byteLength }];
  known.upstream.addManifest('team/app', 'odd', manifestBytes({ layers }), OCI_MANIFEST);
  await writeFile(join(scratch, 'layer.tar.gz'), blob);
  await run('ztoc', 'create', join(scratch, 'layer.tar.gz'), '-o', join(scratch, 'ztoc'));
});

async function run(...args: string[]): Promise<{ status: number | null; stdout: string; stderr: string }> {
  await using child = new SpandrelProcess(args);
  const status = await child.exitStatus();
  return { status, stdout: child.stdout, stderr: child.stderr };
}

/** The command as a shell runs it: its arguments are bytes, which Node itself cannot pass on. */
function runByShell(args: readonly (string | Buffer)[]): Promise<Buffer> {
  const words = [process.execPath, MAIN, ...args].flatMap((word) => [
    Buffer.from("'"),
    Buffer.from(Buffer.from(word).toString('latin1').replaceAll("'", `'"'"'`), 'latin1'),
    Buffer.from("' "),
  ]);
  return runProgram('sh', ['-s'], { input: Buffer.concat(words) });
}

describe('commands that show names out of images', () => {
  it.each([
    ['ls', 'known/team/app:odd', '/odd'],
    ['ztoc', 'list'],
  ])('%s %s print one line a file without control characters', async (...words) => {
    const [command = ''] = words;
    const args = command === 'ls' ? [...words, '--proxy', known.app.url] : [...words, join(scratch, 'ztoc')];
    const { status, stdout } = await run(...args);
    const lines = stdout.split('\n').slice(0, -1);
    expect([status, lines.length]).toEqual([0, ODD_NAMES.length + (command === 'ls' ? 0 : 1)]);
    expect(lines.filter((line) => !HARMLESS.test(line))).toEqual([]);
    const json = await run(...args, '--json');
    expect(json.stdout).toMatch(/^[^\p{Cc}\p{Cf}\p{Zl}\p{Zp}]*(?:\n[^\p{Cc}\p{Cf}\p{Zl}\p{Zp}]*)*$/u);
    expect(json.stdout).toContain('caf%E9');
  });

  it.each([
    [['cat', 'known/team/app:odd', '/odd/\u001b[2J\u202e']],
    [['stat', 'known/team/app:odd', '/odd/\u001b[2J\u202e']],
    [['ls', '\u001b[2J\u009b']],
    [['warm', '\u001b[2J\u009b']],
    [['\u001b[2J\u009b']],
  ])('%j fails with a harmless message', async (args) => {
    const { status, stdout, stderr } = await run(...args, '--proxy', known.app.url);
    expect([status === 0, stdout]).toEqual([false, '']);
    expect(stderr.split('\n').filter((line) => !HARMLESS.test(line))).toEqual([]);
  });
});

describe('spandrel cat and stat', () => {
  const UNUSUAL = ODD_NAMES.filter((name) => name.length < 100);

  it('take a path as bytes, as shells pass it', async () => {
    for (const name of [Buffer.from('caf\xe9', 'latin1'), Buffer.from('\xed\xb3\xa9', 'latin1')]) {
      const path = Buffer.concat([Buffer.from('/odd/'), name]);
      const proxy = ['--proxy', known.app.url];
      expect(await runByShell(['cat', 'known/team/app:odd', path, ...proxy])).toEqual(contentOf(name));
      const { size } = JSON.parse(
        (await runByShell(['stat', 'known/team/app:odd', path, '--json', ...proxy])).toString(),
      ) as { size: number };
      expect(size).toBe(contentOf(name).length);
      const ztoc = [join(scratch, 'ztoc'), join(scratch, 'layer.tar.gz')];
      expect(await runByShell(['ztoc', 'cat', ...ztoc, path])).toEqual(contentOf(name));
    }
  });

  it('take a path percent-encoded, as JSON has it', async () => {
    const quoted = await quoteByPython(UNUSUAL);
    const ztoc = [join(scratch, 'ztoc'), join(scratch, 'layer.tar.gz')];
    const picked = UNUSUAL.map((name, place) => ({ name, path: `odd/${quoted[place] ?? ''}` })).slice(0, 9);
    for (const { name, path } of picked) {
      const read = await runByShell(['ztoc', 'cat', ...ztoc, '--encoded', path]);
      expect(read).toEqual(contentOf(name));
    }
    const [first] = picked;
    const args = ['known/team/app:odd', '--encoded', first?.path ?? '', '--proxy', known.app.url];
    expect(await runByShell(['cat', ...args])).toEqual(contentOf(first?.name ?? Buffer.alloc(0)));
  });
});
