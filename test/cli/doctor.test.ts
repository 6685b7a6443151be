import { beforeAll, describe, expect, it } from 'vitest';

import type { PlatformReport } from '../../src/cli/doctor/image/check-image.ts';
import type { Finding } from '../../src/cli/doctor/finding.ts';
import { printFindings } from '../../src/cli/doctor-status.ts';
import type { ImageDescription } from '../../src/images/operations/image-overview.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { startDemoRegistry } from '../helpers/upstreams/demo-upstream.ts';
import { NodeTree } from '../helpers/clients/node-tree.ts';
import { runInProcess } from '../helpers/run-in-process.ts';
import { RunningApp } from '../helpers/running-app.ts';
import { ScriptedUpstream } from '../helpers/upstreams/scripted-upstream.ts';

let app: RunningApp;

beforeAll(async () => {
  const demo = cleanup.use(await startDemoRegistry());
  const locked = cleanup.use(
    await ScriptedUpstream.start((_request, response) =>
      response.writeHead(401, { 'www-authenticate': 'Basic realm="locked"' }).end(),
    ),
  );
  app = cleanup.use(
    await RunningApp.start({
      upstreams: [
        { name: 'demo', host: 'registry.test', url: demo.url },
        { name: 'locked', url: locked.url },
      ],
      environment: { SPANDREL_INDEX_PLATFORMS: '["linux/amd64","linux/arm64"]' },
    }),
  );
});

interface Answer {
  readonly status: number | null;
  readonly ok: boolean;
  readonly findings: readonly Finding[];
  readonly image?: { readonly platforms: readonly PlatformReport[] };
}

async function doctor(...args: string[]): Promise<Answer> {
  const { status, stdout } = await runInProcess('doctor', '--json', '--proxy', app.url, ...args);
  const printed = JSON.parse(stdout) as Answer;
  expect(printed.status).toBe(status);
  return printed;
}

function messages({ findings }: Answer, area: Finding['area'], status: Finding['status']): string[] {
  return findings
    .filter((found) => found.area === area && found.status === status)
    .map(({ message }) => message);
}

describe('spandrel doctor', () => {
  it('explains an image layer by layer, before and after its first lazy pull', async () => {
    const before = await doctor('--no-node', 'demo/app:latest@linux/amd64');
    expect([before.status, before.ok]).toEqual([5, false]);
    expect(messages(before, 'image', 'problem')).toEqual([
      expect.stringMatching(/^linux\/amd64: no SOCI index/),
    ]);
    const notes = messages(before, 'image', 'note');
    expect(notes.filter((note) => note.includes('has not been indexed yet'))).toHaveLength(3);
    expect(notes.filter((note) => note.includes('smaller than 10.5 MB, the minLayerBytes'))).toHaveLength(2);
    expect(notes.filter((note) => note.includes('has no zTOC (zstd)'))).toHaveLength(1);

    await fetch(`${app.url}/v2/demo/app/manifests/latest`, {
      headers: {
        'user-agent': 'containerd/2.2.6',
        accept: 'application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json',
      },
    });
    // A busy machine answers the tag before the index is there.
    const sociIndexes = async (): Promise<object> =>
      ((await (await fetch(`${app.url}/v2/demo/app/_soci/images/latest`)).json()) as ImageDescription)
        .platforms[0]?.soci ?? {};
    await expect.poll(sociIndexes, { timeout: 25_000 }).toHaveProperty('v2');
    const after = await doctor('--no-node', 'demo/app:latest@linux/amd64');
    expect([after.status, after.ok]).toEqual([0, true]);
    expect(messages(after, 'image', 'ok').at(-1)).toMatch(
      /^linux\/amd64: lazy, 3 of 6 layers and 37 of 42 MB \(86\.\d %\) by a SOCI v2/,
    );
  });

  it('calls no layer lazy that the SOCI index leaves out, also if the proxy has read it', async () => {
    const overview = (await (
      await fetch(`${app.url}/v2/demo/app/_soci/images/latest`)
    ).json()) as ImageDescription;
    const small = overview.platforms[0]?.layers.find(({ skipped }) => skipped === 'too_small');
    const url = `${app.url}/v2/demo/app/_soci/layers/${small?.digest}`;
    // A read of the layer makes its index.
    await (await fetch(`${url}/tar`, { headers: { range: 'bytes=0-99' } })).arrayBuffer();
    await expect.poll(async () => await (await fetch(url)).json()).toMatchObject({ state: 'indexed' });
    const answer = await doctor('--no-node', 'demo/app:latest@linux/amd64');
    const of = answer.findings.filter(({ digest, bytes }) => digest === small?.digest && bytes !== undefined);
    expect(of).toEqual([
      expect.objectContaining({
        status: 'note',
        message: expect.stringMatching(/is fetched whole by nodes: the SOCI index leaves it out/),
      }),
    ]);
    const lazy = messages(answer, 'image', 'ok').filter((message) => message.includes('is read by spans'));
    expect(lazy).toHaveLength(answer.image?.platforms[0]?.layers.lazy ?? 0);
  });

  it.each([
    ['demo/app:nothing', 3, /MANIFEST_UNKNOWN/, /look for the tag/],
    ['nobody/app:1', 3, /no upstream for this name/, /begin the name/],
    ['locked/app:1', 1, /UPSTREAM_CREDENTIALS_REFUSED|401/, /correct auth of this upstream/],
    ['demo/app:latest@plan9/mips', 3, /no platform plan9\/mips/, /linux\/amd64, linux\/arm64/],
  ])('says of %s what is wrong, and what to do', async (image, exit, message, next) => {
    const { status, findings } = await doctor('--no-node', image);
    const problem = findings.find(({ status: found }) => found === 'problem');
    expect([status, problem?.message, problem?.next]).toEqual([
      exit,
      expect.stringMatching(message),
      expect.stringMatching(next),
    ]);
  });

  it('counts what the SOCI index lists, in layers and bytes, and fails below --min-coverage', async () => {
    const enough = await doctor('--no-node', '--min-coverage', '80%', 'demo/app:latest@linux/amd64');
    expect(enough.status).toBe(0);
    const [platform] = enough.image?.platforms ?? [];
    expect(platform).toMatchObject({ platform: 'linux/amd64', lazy: true, layers: { lazy: 3, total: 6 } });
    const listed = enough.findings.filter(({ bytes }) => bytes !== undefined);
    expect(listed.reduce((sum, { bytes = 0 }) => sum + bytes, 0)).toBe(platform?.bytes.total);
    for (const { digest } of listed) expect(digest).toMatch(/^sha256:[0-9a-f]{64}$/);

    const tooLittle = await doctor('--no-node', '--min-coverage', '0.9', 'demo/app:latest@linux/amd64');
    expect([tooLittle.status, tooLittle.image?.platforms[0]?.lazy]).toEqual([5, false]);
    expect(messages(tooLittle, 'image', 'problem')).toEqual([expect.stringMatching(/86\.\d %.* 90 %/)]);
  });

  it('prints errors as JSON with --json, on standard output', async () => {
    for (const [args, status, code] of [
      [['doctor', '--json', '--proxy', 'nonsense'], 2, 'USAGE'],
      [['doctor', '--json', '--unknown'], 2, 'USAGE'],
      [['doctor', '--json', '--min-coverage', '101%', 'demo/app:latest'], 2, 'USAGE'],
      [['ls', '--json', '--proxy', app.url, 'demo/app:nothing', '/'], 3, 'MANIFEST_UNKNOWN'],
      [['stat', '--json', '--proxy', app.url, 'demo/app:latest', '/nothing'], 3, 'FILE_UNKNOWN'],
      [['ls', '--json', '--proxy', 'http://127.0.0.1:1', 'demo/app:latest'], 4, 'UPSTREAM_UNREACHABLE'],
    ] as const) {
      const printed = await runInProcess(...args);
      expect([printed.status, JSON.parse(printed.stdout)]).toEqual([
        status,
        { error: { code, message: expect.any(String) } },
      ]);
    }
  });

  describe('on a node with the proxy as a mirror', () => {
    const lead = async (path: string, registry = 'registry.test'): Promise<Answer> => {
      await using tree = await NodeTree.create({
        '/etc/containerd/config.toml': 'version = 2\n[plugins.cri.registry]\nconfig_path = "/etc/certs.d"',
        [`/etc/certs.d/${registry}/hosts.toml`]: `[host."${app.url}"]`,
        '/etc/soci-snapshotter-grpc/config.toml': `[content_store]\ntype = "containerd"\n[[resolver.host."${registry}".mirrors]]\nhost = "${app.url}${path}"`,
      });
      return await doctor('--root', tree.root);
    };

    it.each(['/v2/demo', '/demo', '/v2/registry.test', '/demo/'])(
      'the proxy accepts ns, and the path %s of the snapshotter',
      async (path) => {
        const answer = await lead(path);
        expect(messages(answer, 'mirrors', 'problem')).toEqual([]);
        expect(messages(answer, 'mirrors', 'ok')).toEqual([
          expect.stringMatching(/hosts.toml leads to the proxy/),
          expect.stringMatching(/accepts \?ns=registry.test/),
          expect.stringMatching(/the snapshotter requests layers of registry.test at .* has them/),
        ]);
      },
    );

    it.each([
      ['', /names no upstream/],
      ['/v2', /names no upstream/],
      ['/v2/other', /no upstream has the name or host "other"/],
      ['/v2/locked', /is the upstream /],
    ])('the path %j is a problem, with the line to write', async (path, why) => {
      const { findings } = await lead(path);
      expect(findings.filter(({ area, status }) => area === 'mirrors' && status === 'problem')).toEqual([
        expect.objectContaining({
          message: expect.stringMatching(why),
          next: expect.stringContaining(`host = "${app.url}/v2/registry.test"`),
        }),
      ]);
    });

    it('a registry that is no upstream is a problem, with the line to write', async () => {
      const { findings } = await lead('/v2/demo', 'quay.example');
      expect(findings).toContainEqual(
        expect.objectContaining({
          code: 'DENIED',
          next: expect.stringContaining("- { name: quay, host: 'quay.example' }"),
        }),
      );
    });
  });

  it('if a registry is no upstream, a mirror that names it as wanted is not to be changed', async () => {
    await using tree = await NodeTree.create({
      '/etc/containerd/config.toml': 'version = 2\n[plugins.cri.registry]\nconfig_path = "/etc/certs.d"',
      '/etc/certs.d/quay.example/hosts.toml': `[host."${app.url}"]`,
      '/etc/soci-snapshotter-grpc/config.toml': `[content_store]\ntype = "containerd"\n[[resolver.host."quay.example".mirrors]]\nhost = "${app.url}/v2/quay.example"`,
    });
    const { findings } = await doctor('--root', tree.root);
    const steps = findings
      .filter(({ area, status }) => area === 'mirrors' && status === 'problem')
      .map(({ next }) => next);
    const upstream = expect.stringContaining("- { name: quay, host: 'quay.example' }") as unknown;
    expect(steps).toEqual([upstream, upstream]);
  });

  it('checks the upstreams of a configuration', async () => {
    await using tree = await NodeTree.create({
      '/spandrel.yaml': `upstreams:\n  - { name: locked, url: '${app.url}/nothing/here' }\n  - { name: self, host: self.example, url: '${app.url}' }\n`,
    });
    const answer = await doctor('--no-node', '--config', `${tree.root}/spandrel.yaml`);
    expect(messages(answer, 'upstream', 'problem')).toHaveLength(1);
    expect(messages(answer, 'upstream', 'ok')).toEqual([expect.stringMatching(/^self .* is reachable/)]);
  });

  it('says that a node does not look for the kind of index that exists', async () => {
    await using tree = await NodeTree.create({
      '/etc/containerd/config.toml': 'version = 2',
      '/etc/soci-snapshotter-grpc/config.toml': '[pull_modes.soci_v2]\nenable = false',
    });
    const answer = await doctor('--root', tree.root, 'demo/app:latest@linux/amd64');
    expect(messages(answer, 'image', 'problem')).toEqual([expect.stringMatching(/does not look for one/)]);
    expect(messages(answer, 'snapshotter', 'problem')).toContainEqual(expect.stringMatching(/both off/));
  });

  it('prints its findings as text, with what to do next', async () => {
    const gone = await ScriptedUpstream.start(() => undefined);
    await gone[Symbol.asyncDispose]();
    const { status, stdout } = await runInProcess('doctor', '--no-node', '--proxy', gone.url);
    expect(status).toBe(4);
    expect(stdout).toMatch(/^proxy {7}PROBLEM {2}nothing responds at .*ECONNREFUSED.*\n {21}-> start it/);
    expect(stdout).toMatch(/\n1 problem\n$/);
  });

  it('breaks its lines at the width of the terminal, below their own column', () => {
    const findings = [
      { area: 'image', status: 'problem', message: 'it would be pulled whole', next: 'warm it' },
    ] as const;
    expect(printFindings(findings, 1, 40)).toBe(
      [
        'image       PROBLEM  it would be pulled',
        '                     whole',
        '                     -> warm it',
        '1 problem\n',
      ].join('\n'),
    );
    expect(printFindings(findings, 1).split('\n')).toHaveLength(4);
  });

  it.each([[['a', 'b']], [['--proxy', 'nonsense']], [['--unknown']], [['--min-coverage', '80%']]])(
    'refuses %j',
    async (args) => {
      expect((await runInProcess('doctor', ...args)).status).toBe(2);
    },
  );
});
