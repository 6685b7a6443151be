import { readFileSync } from 'node:fs';

import { parse as parseToml } from 'smol-toml';
import { describe, expect, it } from 'vitest';
import { parse as parseYaml } from 'yaml';

import { checkSnapshotter } from '../../src/cli/doctor/check-snapshotter.ts';
import { parseConfig } from '../../src/config/parse-config.ts';
import { parseEcrHost } from '../../src/core/ecr-host.ts';
import { Events } from '../../src/telemetry/events.ts';
import { createUpstreams } from '../../src/upstream/upstreams.ts';
import { collectingLogger } from '../helpers/collected-output.ts';
import { NodeTree } from '../helpers/clients/node-tree.ts';
import { runInProcess } from '../helpers/run-in-process.ts';

function read(name: string): string {
  return readFileSync(new URL(`../../config/examples/${name}`, import.meta.url), 'utf8');
}

interface Policy {
  readonly Statement: readonly { readonly Action: string | readonly string[]; readonly Resource: string }[];
}

describe('config/examples/upstreams.yaml', () => {
  const config = parseConfig({ yaml: read('upstreams.yaml'), environment: {} });

  it('has an upstream of each kind, and clients can be created for all of them', async () => {
    const kinds = config.upstreams?.map(({ name, auth }) => `${name} ${auth.kind}`);
    expect(kinds).toEqual([
      'ecr ecr',
      'shared ecr',
      'public ecr',
      'hub basic',
      'ghcr docker-config',
      'quay anonymous',
      'harbor basic',
      'k8s basic',
      'chainguard ecr',
      'microsoft basic',
      'artifactory anonymous',
      'nvidia basic',
      'gitlab anonymous',
    ]);
    const plain = (config.upstreams ?? []).map(({ ca: _ca, cert: _cert, key: _key, ...rest }) => rest);
    await using upstreams = await createUpstreams({
      upstreams: plain,
      timing: config.upstream,
      limits: config.limits,
      events: new Events(collectingLogger()),
      logger: collectingLogger(),
    });
    const selected = upstreams.select({ name: 'nginx', namespace: 'docker.io' });
    expect([selected.client.name, selected.repository]).toEqual(['hub', 'library/nginx']);
    const names = ['k8s/pause', 'chainguard/chainguard/go', 'microsoft/dotnet/sdk'].map((name) => {
      const { client, repository } = upstreams.select({ name });
      return client.upstreamName(repository);
    });
    expect(names).toEqual(['k8s/pause', 'chainguard/chainguard/go', 'my-project/microsoft/dotnet/sdk']);
  });

  it('names ECR hosts that the parser recognizes', () => {
    const hosts =
      config.upstreams?.filter(({ auth }) => auth.kind === 'ecr').map(({ url }) => new URL(url).host) ?? [];
    expect(hosts.map((host) => parseEcrHost(host)?.kind)).toEqual([
      'private',
      'private',
      'public',
      'private',
    ]);
  });
});

describe('config/examples/ecr-policy.json', () => {
  it('allows reads only, and all reads in one account', () => {
    const { Statement } = JSON.parse(read('ecr-policy.json')) as Policy;
    const actions = Statement.flatMap(({ Action }) => Action);
    expect(actions.filter((action) => !/:(Get|BatchGet|BatchCheck|List)[A-Z]/.test(action))).toEqual([]);
    expect(actions.join()).not.toContain('*');
    const wide = Statement.filter(({ Resource }) => Resource === '*').flatMap(({ Action }) => Action);
    // AWS knows no narrower resource for these.
    expect(wide).toEqual([
      'ecr:GetAuthorizationToken',
      'ecr-public:GetAuthorizationToken',
      'sts:GetServiceBearerToken',
    ]);
  });
});

describe('config/examples/s3-policy.json', () => {
  it('allows what the proxy does with its bucket, and nothing else', () => {
    const { Statement } = JSON.parse(read('s3-policy.json')) as Policy;
    expect(Statement.flatMap(({ Action }) => Action).toSorted()).toEqual([
      's3:AbortMultipartUpload',
      's3:DeleteObject',
      's3:GetLifecycleConfiguration',
      's3:GetObject',
      's3:ListBucket',
      's3:ListBucketMultipartUploads',
      's3:PutObject',
    ]);
    expect(Statement.map(({ Resource }) => Resource)).not.toContain('*');
  });
});

describe('the files for nodes that write containerd’s configuration themselves', () => {
  const REGISTRY = '123456789012.dkr.ecr.eu-central-1.amazonaws.com';
  const PROXY = 'https://registry.internal.example.com';

  it('al2023-user-data.txt has what node setup writes, and credentials for the snapshotter', async () => {
    const parts = readParts(read('al2023-user-data.txt'));
    const cloud = parseYaml(parts.get('text/cloud-config') ?? '') as {
      write_files: { path: string; content: string }[];
    };
    const node = parseYaml(parts.get('application/node.eks.aws') ?? '') as {
      apiVersion: string;
      kind: string;
      spec: { containerd: { config: string }; kubelet: { config: { imageServiceEndpoint: string } } };
    };
    expect([node.apiVersion, node.kind]).toEqual(['node.eks.aws/v1alpha1', 'NodeConfig']);
    const present = { [SOCKET]: '', '/dev/fuse': '' };
    // As nodeadm writes it on its own.
    const own =
      "version = 3\n[plugins.'io.containerd.cri.v1.images'.registry]\n" +
      "config_path = '/etc/containerd/certs.d:/etc/docker/certs.d'\n";
    const config = '/etc/containerd/config.toml';
    const written = Object.fromEntries(cloud.write_files.map(({ path, content }) => [path, content]));
    await using given = await NodeTree.create({
      ...present,
      ...written,
      [config]: `${own}\n${node.spec.containerd.config}`,
    });
    const flags = ['--proxy', PROXY, '--registry', REGISTRY, '--lazy'];
    const again = await runInProcess('node', 'setup', '--root', given.root, ...flags);
    expect(again).toMatchObject({ status: 0, stderr: '', stdout: 'nothing to change\n' });
    await using bare = await NodeTree.create({ ...present, [config]: own });
    await runInProcess('node', 'setup', '--root', bare.root, ...flags);
    for (const [path, text] of Object.entries(written)) {
      const [setUp, credentials = ''] = text.split('\n# The kubelet');
      expect(await bare.files.readText(path)).toBe(setUp);
      expect(credentials !== '').toBe(path.includes('soci-snapshotter'));
    }
    // The snapshotter sees the credentials of pulls only if the kubelet pulls through it.
    expect(node.spec.kubelet.config.imageServiceEndpoint).toBe(`unix://${SOCKET}`);
    const { modes, findings } = await checkSnapshotter(given.files, {
      proxy: new URL(PROXY),
      mirrored: [REGISTRY],
    });
    expect([modes.v2, findings.filter(({ message }) => message.includes('credentials'))]).toEqual([true, []]);
  });

  it('bottlerocket.toml and talos-patch.yaml lead the same registry to the same proxy', () => {
    expect(parseToml(read('bottlerocket.toml'))).toEqual({
      settings: { 'container-registry': { mirrors: [{ registry: REGISTRY, endpoint: [PROXY] }] } },
    });
    expect(parseYaml(read('talos-patch.yaml'))).toEqual({
      apiVersion: 'v1alpha1',
      kind: 'RegistryMirrorConfig',
      name: REGISTRY,
      endpoints: [{ url: PROXY }],
    });
  });
});

const SOCKET = '/run/soci-snapshotter-grpc/soci-snapshotter-grpc.sock';

/** Bodies of the parts of a MIME document, by their types. */
function readParts(text: string): Map<string, string> {
  const [, boundary = ''] = /boundary="([^"]+)"/.exec(text) ?? [];
  const [, ...parts] = text.split(`--${boundary}`);
  expect(parts.pop()?.trim()).toBe('--');
  return new Map(
    parts.map((part) => {
      const [head = '', ...body] = part.trimStart().split('\n\n');
      return [/^Content-Type: ([^;\n]+)/.exec(head)?.[1] ?? '', body.join('\n\n')];
    }),
  );
}

describe('config/examples/haproxy.cfg', () => {
  const lines = read('haproxy.cfg')
    .split('\n')
    .map((line) => line.trim());
  const { listen, admin } = parseConfig({ yaml: '', environment: {} });

  it('balances connections over the ports of the proxy, and asks the admin listener for /readyz', () => {
    expect(lines).toEqual(
      expect.arrayContaining([
        'mode tcp',
        'balance leastconn',
        'option httpchk GET /readyz',
        'http-check expect status 200',
        expect.stringContaining(`check port ${admin.port} `),
      ]),
    );
    const servers = lines.filter((line) => line.startsWith('server '));
    expect(servers).toHaveLength(3);
    for (const server of servers) expect(server).toMatch(new RegExp(`:${listen.port}$`));
  });

  it('takes a replica out before it stops, with the delay of the documentation', () => {
    const [, seconds, failures] = /inter (\d+)s fall (\d+)/.exec(lines.join('\n')) ?? [];
    const docs = readFileSync(new URL('../../docs/scaling.md', import.meta.url), 'utf8');
    const delayMs = Number(/delayMs: (\d+)/.exec(docs)?.[1]);
    expect(delayMs).toBeGreaterThan(2 * Number(seconds) * Number(failures) * 1000);
  });
});
