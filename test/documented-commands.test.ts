import { readdirSync, readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';

import { beforeAll, describe, expect, it } from 'vitest';

import { COMMAND_NAMES, printCommandHelp } from '../src/cli/run-command.ts';
import { startDemoRegistry } from './helpers/upstreams/demo-upstream.ts';
import { cleanup } from './helpers/cleanup.ts';
import { runProgram, tryProgram } from './helpers/programs.ts';
import { proxyWith } from './helpers/proxy-with.ts';
import type { RunningApp } from './helpers/running-app.ts';
import { fencedBlocks, hasShape, shapeOf, shellBlocks } from './helpers/clients/shell-blocks.ts';
import { temporaryFolder } from './helpers/temporary-folder.ts';

const ROOT = resolve(import.meta.dirname, '..');
const MAIN = join(ROOT, 'src/cli/bin.ts');

const DOCUMENTS = [
  'README.md',
  'CONTRIBUTING.md',
  'config/examples/README.md',
  'load/README.md',
  ...readdirSync(join(ROOT, 'docs'), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.md'))
    .map((name) => join('docs', name)),
];

/** Blocks that are not run here, by how they begin, and why. */
const NOT_RUN: readonly (readonly [begin: string, reason: string])[] = [
  ['npm start', 'serves until it is stopped: test/cli/first-screen.test.ts starts it on a terminal'],
  ['SPANDREL_UPSTREAMS=', 'needs Docker Hub'],
  ['export PATH="$PWD/node_modules', 'runs these tests'],
  ['npm run load', 'takes minutes'],
  ['# on a node', 'needs a node, and a proxy with another name'],
  ['docker ', 'needs Docker'],
  ['helm ', 'needs a cluster: test/docker/helm-chart.test.ts checks the files'],
  ['aws ', 'needs AWS'],
  ['sed -i', 'changes the checkout: test/docker/kubernetes-eks.test.ts compares the table with the files'],
  ['spandrel profile ', 'needs starts of containers: test/boot/learned-starts.test.ts runs it'],
  ['kubectl ', 'needs a cluster: test/docker/kubernetes-eks.test.ts checks the files'],
  [
    'npx spandrel serve',
    'serves until it is stopped: test/documented-blocks.test.ts checks its configuration',
  ],
];

const BLOCKS = DOCUMENTS.flatMap((document) => shellBlocks(document, read(document)));

function read(document: string): string {
  return readFileSync(join(ROOT, document), 'utf8');
}

function isRun({ script }: { readonly script: string }): boolean {
  return !NOT_RUN.some(([begin]) => script.startsWith(begin));
}

describe('the commands of the documentation', () => {
  let app: RunningApp;
  let folder: string;

  beforeAll(async () => {
    const registry = cleanup.use(await startDemoRegistry());
    app = await proxyWith(registry, { upstream: { name: 'demo' } });
    folder = await temporaryFolder();
    const layer = registry.image.layers.find(({ name }) => name === 'base');
    const blob = registry.image.blobs.find(({ digest }) => digest === layer?.digest);
    await writeFile(join(folder, 'layer.tar.gz'), blob?.bytes ?? '');
  });

  /** The addresses of this proxy in the place of the usual ones, and the command of this checkout. */
  function asPasted(script: string): string {
    const { host } = new URL(app.url);
    const here = script
      .replaceAll('127.0.0.1:5000', host)
      .replaceAll('127.0.0.1:5001', new URL(app.adminUrl).host)
      .replaceAll('/tmp/', `${folder}/`);
    return `
      spandrel() {
        case $1 in
          ls|cat|stat|doctor) node ${MAIN} "$@" --proxy ${app.url} ;;
          *) node ${MAIN} "$@" ;;
        esac
      }
      npx() { shift; spandrel "$@"; }
      ${here}`;
  }

  const runnable = BLOCKS.filter(isRun).map((block) => ({
    ...block,
    title: `${block.document}: ${block.script.replaceAll(/\s+/g, ' ').slice(0, 80)}`,
  }));

  // Doctor complains about a proxy that is slow, as all of this machine may be for a moment.
  it.each(runnable)(
    'run as pasted, and print what is shown: $title',
    { retry: 2 },
    async ({ script, output }) => {
      const args = ['-eu', '-o', 'pipefail', '-c', asPasted(script)];
      const { status, stdout, stderr } = await tryProgram('bash', args, { cwd: folder });
      expect({ status, stderr: status === 0 ? '' : stderr.toString() }).toEqual({ status: 0, stderr: '' });
      if (output === undefined) return;
      const [printed, shown] = [shapeOf(stdout.toString()), shapeOf(output)];
      const both = `printed:\n${printed.join('\n')}\nshown:\n${shown.join('\n')}`;
      expect(hasShape(printed, shown), both).toBe(true);
    },
  );

  it('are all run, or listed with the reason why not', () => {
    expect(runnable.length).toBeGreaterThanOrEqual(8);
    const unused = NOT_RUN.filter(([begin]) => !BLOCKS.some(({ script }) => script.startsWith(begin)));
    expect(unused).toEqual([]);
  });

  it('are in blocks of the language sh, which this test finds', () => {
    const others = DOCUMENTS.filter((document) =>
      fencedBlocks(read(document)).some(({ language }) =>
        /^(?:bash|shell|console|zsh|shellsession)$/.test(language),
      ),
    );
    expect(others).toEqual([]);
  });

  it('are shell', async () => {
    await runProgram('bash', ['-n', '-c', BLOCKS.map(({ script }) => `(\n${script}\n)\n`).join('')]);
  });

  it('have commands and flags that exist', async () => {
    const help = new Map(
      await Promise.all(COMMAND_NAMES.map(async (name) => [name, await printCommandHelp(name)] as const)),
    );
    const wrong = DOCUMENTS.flatMap((document) =>
      Array.from(
        read(document).matchAll(
          /(?:npx spandrel|npm exec spandrel --|`spandrel|run: spandrel) ([a-z][a-z-]*)([^\n`|]*)/g,
        ),
        ([line, name = '', rest = '']) => {
          const text = help.get(name);
          const flags = Array.from(rest.matchAll(/(?<= )--[a-z][a-z-]*/g), ([flag]) => flag);
          const isKnown = text !== undefined && flags.every((flag) => new RegExp(` ${flag}\\b`).test(text));
          return isKnown || name === 'help' ? [] : [`${document}: ${line}`];
        },
      ).flat(),
    );
    expect(wrong).toEqual([]);
  });
});

describe('the shape of output', () => {
  const shown = shapeOf('proxy  ok  responds after 4 ms\n…\nlayer sha256:1017f093d8d2 (14 MB)\n…\nend\n');

  it.each([
    [
      'other numbers, digests and padding',
      'proxy ok responds after 39 ms\nlayer sha256:dd6798adf8f6 (9 MB)\nend',
      true,
    ],
    ['more lines', 'proxy ok responds after 1 ms\na\nb\nlayer sha256:dd6798adf8f6 (9 MB)\nc\nend', true],
    ['another word', 'proxy ok answers after 1 ms\nlayer sha256:dd6798adf8f6 (9 MB)\nend', false],
    ['a missing line', 'proxy ok responds after 1 ms\nend', false],
    ['a line too many', 'proxy ok responds after 1 ms\nlayer sha256:dd6798adf8f6 (9 MB)\nend\nx', false],
    ['nothing', '', false],
  ])('%s: %j', (_what, printed, isSame) => {
    expect(hasShape(shapeOf(printed), shown)).toBe(isSame);
  });
});
