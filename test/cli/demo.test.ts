import { readdir } from 'node:fs/promises';

import { expect, it } from 'vitest';

import { printedCommand } from '../helpers/clients/printed-command.ts';
import { SpandrelProcess } from '../helpers/spandrel-process.ts';
import { startOnTerminal } from '../helpers/clients/start-on-terminal.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';

const INTERRUPT = '\u0003';
/** It generates an image, and other tests run beside it. */
const PATIENT = { timeout: 100_000 };

it('the tour says what it has seen, and its addresses work until it is stopped', PATIENT, async () => {
  const folder = await temporaryFolder();
  const { terminal, type } = startOnTerminal(['demo'], { TMPDIR: folder });
  await using _ended = terminal;
  await expect.poll(() => terminal.stdout, PATIENT).toMatch(/npx spandrel doctor .*\r\n/);
  const text = terminal.stdout;
  const [, , first = '', second = '', third = ''] = text.split(/^\d\. /m);
  // Nothing is indexed before the first read, which fetches the layer; the second one fetches nothing.
  expect(text).toContain('6 layers, 42.2 MB; 0 indexed');
  expect(first).toMatch(
    /index of the layer: absent\.[^]*registry sent 13\.7 MB[^]*: indexed, 8 spans, \d+ files/,
  );
  expect(second).toMatch(/64 bytes in [\d.]+ ms, from: (?:memory|disk)\s+the registry sent 0 bytes/);
  expect(third).toMatch(/application\/vnd\.amazon\.soci\.index\.v1\+json sha256:/);
  expect(text).not.toMatch(/[{}]|hit;/);
  const commands = [...text.matchAll(/^ {2}npx spandrel (.*)\r$/gm)].map(([, line = '']) => line);
  expect(commands.map((line) => line.split(' ')[0])).toEqual(['ls', 'cat', 'doctor']);
  // Doctor would complain about this machine if other tests make it slow.
  for (const line of commands.slice(0, 2)) {
    const { status, stderr } = await printedCommand(...line.split(' '));
    expect([line, status, stderr]).toEqual([line, 0, '']);
  }
  type(INTERRUPT);
  expect(await terminal.exitStatus()).toBe(0);
  expect((await readdir(folder)).filter((name) => name.startsWith('spandrel-'))).toEqual([]);
});

it(
  'without a terminal the tour ends by itself, and --json prints what it has measured',
  PATIENT,
  async () => {
    await using child = new SpandrelProcess(['demo', '--json']);
    expect([await child.exitStatus(), child.stderr]).toEqual([0, '']);
    const summary = JSON.parse(child.stdout) as Record<string, number>;
    expect(summary).toMatchObject({ sociIndex: expect.stringMatching(/^sha256:/) as string });
    expect(summary['transferredBytes']).toBeLessThan(summary['imageBytes'] ?? 0);
  },
);
