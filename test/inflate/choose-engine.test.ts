import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';

import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';

import { chooseEngine, engineNamed } from '../../src/inflate/choose-engine.ts';
import { GoldenImages } from '../oracles/golden-images.ts';
import { GoldenLayers, type GoldenZtoc } from '../oracles/golden-layers.ts';
import { startProgram } from '../helpers/programs.ts';
import { proxyWith } from '../helpers/proxy-with.ts';
import { SpandrelProcess } from '../helpers/spandrel-process.ts';
import { ScriptedRegistry } from '../registry/scripted-registry.ts';
import { gnuTar } from '../oracles/gnu-tar.ts';

/** Flags of Node: no WebAssembly, and too little memory for the kernel but enough for that of undici. */
const WITHOUT_WASM = '--jitless';
const LITTLE_WASM = '--wasm-max-mem-pages=4';
const PAKO = { SPANDREL_INFLATE_ENGINE: 'pako' };

const vectors = GoldenLayers.small();
const golden = vectors.layer('gzip-gnu-6');
const layerPath = vectors.path(golden);
let scratch: string;
beforeAll(async () => void (scratch = await mkdtemp(join(tmpdir(), 'spandrel-engine-'))));
afterAll(() => rm(scratch, { recursive: true, force: true }));
afterEach(() => void vi.unstubAllGlobals());

function failingInstances(fault: Error): object {
  function fail(): never {
    throw fault;
  }
  return { Module: vi.fn<() => void>(), Instance: vi.fn<() => never>(fail) };
}

function spandrel(
  flags: readonly string[],
  args: readonly string[],
  environment: Readonly<Record<string, string>> = {},
): SpandrelProcess {
  const child = startProgram('node', [...flags, 'dist/cli/bin.js', ...args], {
    environment,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  return new SpandrelProcess(args, environment, undefined, child);
}

/** Value of the series of an engine; `undefined` if there is none. */
async function inflatedBytes(adminUrl: string, engine: string): Promise<number | undefined> {
  const text = await (await fetch(`${adminUrl}/metrics`)).text();
  const series = `spandrel_inflate_bytes_total{engine="${engine}"} `;
  const line = text.split('\n').find((candidate) => candidate.startsWith(series));
  return line === undefined ? undefined : Number(line.slice(series.length));
}

/** Each byte counts for the client and for the index, which may be published after the response has ended. */
function expectInflated(adminUrl: string, engine: string, bytes: number): Promise<void> {
  return vi.waitFor(async () => expect(await inflatedBytes(adminUrl, engine)).toBe(bytes), 30_000);
}

/** The decompressed layer, as the proxy serves it. */
async function readTar(url: string, upstream: ScriptedRegistry): Promise<Buffer> {
  const digest = await upstream.addBlob('app', await readFile(layerPath));
  const response = await fetch(`${url}/v2/demo/app/_soci/layers/${digest}/tar`);
  expect(response.status).toBe(200);
  return Buffer.from(await response.arrayBuffer());
}

describe('chooseEngine', () => {
  it('chooseEngine returns the wanted engine if WebAssembly can be used', () => {
    expect(chooseEngine('wasm')).toEqual({ engine: 'wasm' });
    expect(chooseEngine('pako')).toEqual({ engine: 'pako' });
  });

  it('chooseEngine returns pako and the reason if WebAssembly is missing or cannot be instantiated', () => {
    vi.stubGlobal('WebAssembly', undefined);
    expect(chooseEngine('wasm')).toEqual({ engine: 'pako', wasmFault: expect.any(TypeError) as Error });
    const fault = new RangeError('no address space');
    vi.stubGlobal('WebAssembly', failingInstances(fault));
    expect(chooseEngine('wasm')).toEqual({ engine: 'pako', wasmFault: fault });
  });
});

describe('the WebAssembly engine', () => {
  it('the WebAssembly engine fails with WORKER_FAILED and the cause if it cannot be instantiated', () => {
    const fault = new RangeError('no address space');
    vi.stubGlobal('WebAssembly', failingInstances(fault));
    const events = { onOutput: () => undefined, onBoundary: () => undefined };
    expect(() => engineNamed('wasm').createGzipInflater(events)).toThrow(
      expect.objectContaining({ code: 'WORKER_FAILED', cause: fault }) as Error,
    );
  });
});

describe('the proxy', () => {
  it.each(['wasm', 'pako'] as const)(
    'the proxy indexes and reads layers only with %s if inflate.engine says so',
    async (engine) => {
      const other = engine === 'wasm' ? 'pako' : 'wasm';
      await using upstream = await ScriptedRegistry.start();
      await using app = await proxyWith(upstream, {
        upstream: { name: 'demo' },
        environment: { SPANDREL_INFLATE_ENGINE: engine },
      });
      expect(await inflatedBytes(app.adminUrl, engine)).toBe(0);
      const tar = gunzipSync(await readFile(layerPath));
      expect((await readTar(app.url, upstream)).equals(tar)).toBe(true);
      await expectInflated(app.adminUrl, engine, 2 * tar.length);
      expect(await inflatedBytes(app.adminUrl, other)).toBeUndefined();
    },
  );

  it('the proxy uses pako if the WebAssembly kernel cannot run, and logs it once', async () => {
    await using upstream = await ScriptedRegistry.start();
    await using child = spandrel([LITTLE_WASM], ['serve'], {
      SPANDREL_LISTEN_PORT: '0',
      SPANDREL_ADMIN_PORT: '0',
      SPANDREL_STORAGE_ROOT: join(scratch, 'store'),
      SPANDREL_UPSTREAMS: JSON.stringify([{ name: 'demo', url: upstream.url }]),
    });
    const { url, adminUrl } = await child.listening();
    const tar = gunzipSync(await readFile(layerPath));
    expect((await readTar(url, upstream)).equals(tar)).toBe(true);
    await expectInflated(adminUrl, 'pako', 2 * tar.length);
    expect(await inflatedBytes(adminUrl, 'wasm')).toBeUndefined();
    const lines = child.stdout.split('\n').filter((line) => line.includes('WebAssembly cannot be used'));
    expect(lines).toHaveLength(1);
    expect(JSON.parse(lines[0] ?? '')).toMatchObject({
      level: 'warn',
      engine: 'pako',
      err: { message: expect.stringContaining('Cannot allocate Wasm memory') as string },
    });
  });
});

describe('offline commands', () => {
  it.each([
    ['without WebAssembly', [WITHOUT_WASM], {}, /^spandrel: WebAssembly cannot be used[^\n]+\n$/],
    [
      'with too little WebAssembly memory',
      [LITTLE_WASM],
      {},
      /^spandrel: WebAssembly cannot be used[^\n]+\n$/,
    ],
    ['with pako by configuration', [WITHOUT_WASM], PAKO, /^$/],
  ])(
    'ztoc creates the same zTOC as soci and reads files with it %s',
    async (_how, flags, environment, said) => {
      const ztocPath = join(scratch, 'layer.ztoc');
      const size = String(golden.options.spanSize);
      const create = ['ztoc', 'create', layerPath, '--span-size', size, '-o', ztocPath];
      await using creating = spandrel(flags, create, environment);
      expect(await creating.exitStatus()).toBe(0);
      expect(creating.stderr).toMatch(said);
      const { ztocDigest } = golden.expected as GoldenZtoc;
      expect(JSON.parse(creating.stdout)).toMatchObject({ digest: ztocDigest });

      const [file = ''] = await gnuTar.files(layerPath);
      const out = join(scratch, 'file');
      await using reading = spandrel(
        flags,
        ['ztoc', 'cat', ztocPath, layerPath, file, '-o', out],
        environment,
      );
      expect(await reading.exitStatus()).toBe(0);
      expect(reading.stderr).toMatch(said);
      const oracle = await gnuTar.read(layerPath, file);
      expect((await readFile(out)).equals(oracle)).toBe(true);
    },
  );

  it('convert creates the same image as soci without WebAssembly', async () => {
    const images = GoldenImages.small();
    const image = images.image('prefetch');
    const [run] = image.runs;
    if (run === undefined || 'error' in run.expected) throw new Error('no such run');
    const out = join(scratch, 'converted');
    const args = ['convert', images.layout(image), out, '--format', 'oci-dir', ...run.options];
    await using child = spandrel([WITHOUT_WASM], args);
    expect(await child.exitStatus()).toBe(0);
    for (const [name, bytes] of images.expectedFiles(run))
      expect((await readFile(join(out, name))).equals(bytes), name).toBe(true);
  });

  it('ztoc refuses an unknown inflate.engine', async () => {
    await using child = spandrel([], ['ztoc', 'create', layerPath], { SPANDREL_INFLATE_ENGINE: 'zlib' });
    expect(await child.exitStatus()).toBe(1);
    expect(child.stderr).toMatch(/CONFIG_INVALID[^]*SPANDREL_INFLATE_ENGINE/);
  });
});
