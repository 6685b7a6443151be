import { readFileSync } from 'node:fs';

import { describe, expect, it } from 'vitest';

import { parseConfig } from '../../src/config/parse-config.ts';
import { parseEcrHost } from '../../src/core/ecr-host.ts';
import { Events } from '../../src/telemetry/events.ts';
import { createUpstreams } from '../../src/upstream/upstreams.ts';
import { collectingLogger } from '../helpers/collected-output.ts';

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
