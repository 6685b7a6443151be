import { readFileSync } from 'node:fs';
import { statfs, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { gzipSync } from 'node:zlib';

import { beforeAll, describe, expect, it } from 'vitest';
import { parse, stringify } from 'yaml';

import { type Digest, digestOf } from '../../src/core/digest.ts';
import { MEDIA_TYPES } from '../../src/core/media-types.ts';
import { ScriptedRegistry } from '../registry/scripted-registry.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { runProgram } from '../helpers/programs.ts';
import { proxyWith } from '../helpers/proxy-with.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';

const CONFIG = resolve(import.meta.dirname, '../../config');
const LAYER = readFileSync(new URL('../fixtures/golden/layers/gzip-gnu-6.tar.gz', import.meta.url));
const NO_TAR = gzipSync(Buffer.alloc(50_000, 'no tar'));

/** Metrics in the text format: values by name and labels. */
class Scrape {
  readonly #series = new Map<string, { labels: Map<string, string>; value: number }[]>();
  readonly names: string[] = [];

  constructor(text: string) {
    for (const line of text.split('\n')) {
      const [, described] = /^# TYPE (\S+)/.exec(line) ?? [];
      if (described !== undefined) this.names.push(described);
      const [, name, inside = '', value] = /^([a-z]\w*)(?:\{(.*)\})? (\S+)$/.exec(line) ?? [];
      if (name === undefined) continue;
      const labels = new Map(
        Array.from(inside.matchAll(/(\w+)="([^"]*)"/g), ([, key = '', text = '']) => [key, text]),
      );
      this.#series.set(name, [...(this.#series.get(name) ?? []), { labels, value: Number(value) }]);
    }
  }

  has(name: string): boolean {
    return this.#series.has(name);
  }

  labels(name: string): string[] {
    return [...new Set((this.#series.get(name) ?? []).flatMap(({ labels }) => [...labels.keys()]))];
  }

  /** Values of one label whose series are not zero. */
  values(name: string, label: string): string[] {
    const touched = (this.#series.get(name) ?? []).filter(({ value }) => value > 0);
    return [...new Set(touched.map(({ labels }) => labels.get(label) ?? ''))].toSorted();
  }

  total(name: string): number {
    return (this.#series.get(name) ?? []).reduce((sum, { value }) => sum + value, 0);
  }
}

const { version } = JSON.parse(readFileSync(resolve(CONFIG, '../package.json'), 'utf8')) as {
  version: string;
};

/** While a blob is held back, and when everything has happened. */
let root: string;
/** While an upstream does not respond. */
let held: Scrape;
let busy: Scrape;
let scrape: Scrape;

beforeAll(async () => {
  const upstream = cleanup.use(await ScriptedRegistry.start());
  const layer = await upstream.addBlob('app', Uint8Array.from(LAYER));
  const other = await upstream.addBlob('app', new Uint8Array(100_000).fill(7));
  const manifest = await addImage(upstream, layer);
  const app = await proxyWith(upstream, {
    upstream: { name: 'demo' },
    environment: {
      SPANDREL_INDEX_MIN_LAYER_BYTES: '0',
      SPANDREL_INDEX_SPAN_BYTES: '16KiB',
      SPANDREL_CACHE_MEMORY_BYTES: '400KiB',
      SPANDREL_CACHE_REDIS_URL: 'redis://127.0.0.1:1',
      SPANDREL_UPSTREAM_RETRIES: '0',
    },
  });
  root = app.root;
  const repository = `${app.url}/v2/demo/app`;
  const get = async (path: string, status = 200): Promise<void> => {
    const response = await fetch(`${repository}/${path}`);
    await response.arrayBuffer();
    if (response.status !== status) throw new Error(`${path}: ${response.status}`);
  };
  const read = async (): Promise<Scrape> => new Scrape(await (await fetch(`${app.adminUrl}/metrics`)).text());

  const hold = Promise.withResolvers<void>();
  upstream.faults.add({ match: { path: /blobs/ }, action: { kind: 'hold', until: hold.promise } });
  const asked = [get(`blobs/${other}`), get(`blobs/${other}`)];
  await upstream.requests.waitFor(({ path }) => path.includes(other));
  held = await read();
  hold.resolve();
  await Promise.all(asked);
  // The first rule that matches counts.
  upstream.faults.clear();
  const stall = { kind: 'stall', afterBytes: 1000 } as const;
  upstream.faults.add({ match: { method: 'GET', path: new RegExp(layer) }, action: stall, times: 1 });
  const leaving = new AbortController();
  const stalled = fetch(`${repository}/blobs/${layer}`, { signal: leaving.signal });
  await (await stalled).body?.getReader().read();
  busy = await read();
  leaving.abort();

  await get(`manifests/${manifest}`, 200);
  await get(`referrers/${manifest}`, 200);
  await get(`_soci/layers/${layer}/tar`, 200);
  for (const id of [0, 1, 2, 2]) await get(`_soci/layers/${layer}/spans/${id}`);
  // The two decompressed layers exceed the share of memory for spans.
  await get(`_soci/layers/${digestOf(NO_TAR)}/tar`);
  await get(`blobs/${layer}`, 200);
  await get('manifests/missing', 404);
  await fetch(`${app.adminUrl}/api/v1/blobs/${other}`, { method: 'DELETE' });
  scrape = await read();
});

/** An image with a layer that can be indexed, and one that cannot. */
async function addImage(upstream: ScriptedRegistry, layer: Digest): Promise<Digest> {
  const config = Buffer.from(
    '{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[]}}',
  );
  await upstream.addBlob('app', Uint8Array.from(config));
  const broken = await upstream.addBlob('app', Uint8Array.from(NO_TAR));
  const manifest = {
    schemaVersion: 2,
    mediaType: MEDIA_TYPES.ociManifest,
    config: { mediaType: MEDIA_TYPES.ociConfig, digest: digestOf(config), size: config.byteLength },
    layers: [
      { mediaType: MEDIA_TYPES.ociLayerGzip, digest: layer, size: LAYER.byteLength },
      { mediaType: MEDIA_TYPES.ociLayerGzip, digest: broken, size: NO_TAR.byteLength },
    ],
  };
  return upstream.addManifest('app', 'latest', Buffer.from(JSON.stringify(manifest)), manifest.mediaType);
}

describe('the metrics', () => {
  it.each<[string, string, readonly string[]]>([
    ['http_requests_total', 'route', ['blob', 'manifest', 'referrers', 'span', 'tar']],
    ['http_requests_total', 'status', ['200', '404']],
    ['http_requests_total', 'method', ['GET']],
    ['http_request_duration_seconds_count', 'route', ['blob', 'span', 'tar']],
    ['upstream_requests_total', 'upstream', ['demo']],
    ['upstream_requests_total', 'kind', ['blob', 'manifest', 'referrers']],
    ['upstream_requests_total', 'outcome', ['not_found', 'ok']],
    ['upstream_request_duration_seconds_count', 'kind', ['blob', 'manifest', 'referrers']],
    ['upstream_request_duration_seconds_count', 'upstream', ['demo']],
    ['build_info', 'version', [version]],
    ['upstream_bytes_total', 'upstream', ['demo']],
    ['served_bytes_total', 'source', ['disk', 'fill']],
    ['span_reads_total', 'source', ['disk', 'memory']],
    ['index_builds_total', 'outcome', ['indexed', 'readable']],
    ['index_layers_skipped_total', 'reason', ['TAR_INVALID']],
    ['image_pulls_total', 'mode', ['full']],
    ['inflate_bytes_total', 'engine', ['wasm']],
    ['cache_bytes', 'tier', ['memory']],
    ['cache_evictions_total', 'tier', ['disk', 'memory']],
    ['store_bytes', 'state', ['complete']],
    ['fills_total', 'outcome', ['complete']],
    ['single_flight_joined_total', 'what', ['blob']],
    ['redis_errors_total', 'op', ['connect', 'get', 'set']],
  ])('%s is counted by %s', (name, label, values) => {
    expect(scrape.values(`spandrel_${name}`, label)).toEqual(expect.arrayContaining([...values]));
  });

  it('metrics show the duration of builds, the limit of the store, received bytes and waiting tasks', () => {
    expect(scrape.total('spandrel_index_build_duration_seconds_count')).toBeGreaterThanOrEqual(2);
    expect(scrape.total('spandrel_store_limit_bytes')).toBe(50 * 2 ** 30);
    expect(busy.total('spandrel_fills_in_progress')).toBe(1);
    expect(scrape.total('spandrel_fills_in_progress')).toBe(0);
    expect(scrape.labels('spandrel_worker_queue_length')).toEqual(['pool']);
  });

  it('tell what is in flight, and what the disk of the store has left', async () => {
    // Two clients wait for one blob.
    expect(held.total('spandrel_http_requests_in_flight')).toBe(2);
    expect(held.total('spandrel_upstream_requests_in_flight')).toBe(1);
    expect(scrape.total('spandrel_http_requests_in_flight')).toBe(0);
    expect(scrape.total('spandrel_store_locked')).toBe(1);
    const { bavail, bsize, blocks } = await statfs(root);
    const freeBytes = scrape.total('spandrel_store_free_bytes');
    // Other programs write to the same disk.
    expect(freeBytes).toBeGreaterThan((bavail * bsize) / 2);
    expect(freeBytes).toBeLessThan(blocks * bsize);
  });

  it('metrics have no repository, digest or address in a label', () => {
    const own = scrape.names.filter((name) => name.startsWith('spandrel_'));
    expect(own.length).toBeGreaterThan(15);
    const labels = new Set(
      own.flatMap((name) => [...scrape.labels(name), ...scrape.labels(`${name}_bucket`)]),
    );
    for (const label of ['repository', 'digest', 'url', 'client', 'image'])
      expect(labels).not.toContain(label);
  });
});

/** The metrics of expressions, with the labels that select or group them. */
function findSelectors(expression: string): { name: string; labels: string[] }[] {
  const grouped = Array.from(
    expression.matchAll(/\b(?:by|ignoring|on)\s*\(([^)]*)\)/g),
    ([, list = '']) => list,
  )
    .join()
    .split(/[,\s]+/)
    .filter((label) => label !== '');
  const ofTarget = new Set(['namespace', 'job', 'instance', 'le']);
  return Array.from(
    expression.matchAll(/\b((?:spandrel|process|nodejs)_\w+)(?:\{([^}]*)\})?/g),
    ([, name = '', inside = '']) => ({
      name,
      labels: Array.from(inside.matchAll(/(\w+)\s*[=!]~?/g), ([, label = '']) => label).filter(
        (label) => !ofTarget.has(label),
      ),
    }),
  ).concat(
    // At least one metric of an expression has each label that it groups by.
    grouped.filter((label) => !ofTarget.has(label)).map((label) => ({ name: '', labels: [label] })),
  );
}

function expectKnown(expression: string): void {
  const selectors = findSelectors(expression);
  const names = selectors.map(({ name }) => name).filter((name) => name !== '');
  expect(names.length, expression).toBeGreaterThan(0);
  for (const { name, labels } of selectors) {
    if (name !== '') expect(scrape.has(name) || isUntouched(name), `${name} in ${expression}`).toBe(true);
    const known = name === '' ? names.flatMap((one) => scrape.labels(one)) : scrape.labels(name);
    for (const label of labels) expect(known, expression).toContain(label);
  }
}

/** True for a metric that is declared; its series may appear with the first event. */
function isUntouched(name: string): boolean {
  return scrape.names.includes(name);
}

interface Dashboard {
  readonly panels: readonly { readonly targets?: readonly { readonly expr: string }[] }[];
}

const dashboard = JSON.parse(readFileSync(join(CONFIG, 'grafana/spandrel.json'), 'utf8')) as Dashboard;
const panelExpressions = dashboard.panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr));
const rules = parse(readFileSync(join(CONFIG, 'prometheus/alerts.yaml'), 'utf8')) as {
  groups: { rules: { alert: string; expr: string; annotations: { summary: string; action: string } }[] }[];
};
const alerts = rules.groups.flatMap((group) => group.rules);

describe('dashboard and alerts', () => {
  it('dashboard and alerts read only existing metrics and labels', () => {
    expect(panelExpressions.length).toBeGreaterThan(20);
    for (const expression of [...panelExpressions, ...alerts.map(({ expr }) => expr)])
      expectKnown(expression);
    expect(() => expectKnown('rate(spandrel_no_such_total[5m])')).toThrow('spandrel_no_such_total');
    expect(() => expectKnown('spandrel_cache_bytes{repository="x"}')).toThrow('repository');
    expect(() => expectKnown('sum by (digest) (spandrel_cache_bytes)')).toThrow('digest');
  });

  it('the dashboard shows every metric of the proxy', () => {
    const shown = panelExpressions.join();
    const own = scrape.names.filter((name) => name.startsWith('spandrel_'));
    expect(own.filter((name) => !shown.includes(name))).toEqual([]);
  });

  it('promtool accepts the alerts, and they fire when they should', async () => {
    await runProgram('promtool', ['check', 'rules', join(CONFIG, 'prometheus/alerts.yaml')]);
    await runProgram('promtool', ['test', 'rules', join(CONFIG, 'prometheus/alerts.test.yaml')]);
    const scratch = await temporaryFolder();
    const file = join(scratch, 'panels.yaml');
    const recorded = panelExpressions.map((expr, place) => ({ record: `panel_${place}`, expr }));
    await writeFile(file, stringify({ groups: [{ name: 'panels', rules: recorded }] }));
    await runProgram('promtool', ['check', 'rules', file]);
  });

  it('every alert tells what to do, and a case of the tests makes it fire', () => {
    const cases = parse(readFileSync(join(CONFIG, 'prometheus/alerts.test.yaml'), 'utf8')) as {
      tests: { alert_rule_test: { alertname: string; exp_alerts?: unknown[] }[] }[];
    };
    const firing = cases.tests
      .flatMap((test) => test.alert_rule_test)
      .flatMap(({ alertname, exp_alerts: fired = [] }) => (fired.length > 0 ? [alertname] : []));
    expect(alerts.map(({ alert }) => alert).filter((alert) => !firing.includes(alert))).toEqual([]);
    for (const { annotations } of alerts) expect(annotations.action.length).toBeGreaterThan(20);
  });
});
