import { describe, expect, it } from 'vitest';

import { parseConfig } from '../../src/config/parse-config.ts';
import { Events } from '../../src/telemetry/events.ts';
import { mayReceiveCredentials } from '../../src/upstream/auth/may-receive-credentials.ts';
import { createUpstreams, type Upstreams } from '../../src/upstream/upstreams.ts';
import { collectingLogger } from '../helpers/collected-output.ts';

function open(...upstreams: object[]): Promise<Upstreams> {
  const config = parseConfig({ yaml: '', environment: { SPANDREL_UPSTREAMS: JSON.stringify(upstreams) } });
  return createUpstreams({
    upstreams: config.upstreams ?? [],
    timing: config.upstream,
    limits: config.limits,
    events: new Events(collectingLogger()),
    logger: collectingLogger(),
  });
}

const ECR = {
  name: 'ecr',
  host: '123456789012.dkr.ecr.eu-west-1.amazonaws.com',
  hostnames: ['images.example.com'],
};
const HUB = { name: 'hub', host: 'docker.io', default: true };

describe('Upstreams.select', () => {
  it.each([
    [{ name: 'team/app', namespace: ECR.host }, 'ecr', 'team/app'],
    [{ name: 'ecr/team/app' }, 'ecr', 'team/app'],
    [{ name: `${ECR.host}/team/app` }, 'ecr', 'team/app'],
    [{ name: 'team/app', host: 'images.example.com:5000' }, 'ecr', 'team/app'],
    [{ name: 'team/app', host: 'Images.Example.com' }, 'ecr', 'team/app'],
    [{ name: 'team/app', host: ECR.host }, 'ecr', 'team/app'],
    [{ name: 'nginx', host: 'registry-1.docker.io' }, 'hub', 'library/nginx'],
    [{ name: 'team/app', host: 'localhost:5000' }, 'hub', 'team/app'],
    [{ name: 'nginx' }, 'hub', 'library/nginx'],
    [{ name: 'nginx', namespace: 'registry-1.docker.io' }, 'hub', 'library/nginx'],
    [{ name: 'hub/nginx', namespace: ECR.host }, 'ecr', 'hub/nginx'],
  ])('%j is %s: %s', async (choice, upstream, repository) => {
    await using upstreams = await open(ECR, HUB);
    const selected = upstreams.select(choice);
    expect([selected.client.name, selected.repository]).toEqual([upstream, repository]);
  });

  it('refuses registries that are not configured', async () => {
    await using upstreams = await open(ECR, HUB);
    expect(() => upstreams.select({ name: 'app', namespace: 'evil.example.com' })).toThrow(
      expect.objectContaining({ code: 'DENIED' }),
    );
  });

  it.each(['Team/app', 'team//app', '../../v2/team/app', 'team/app?x', 'ecr/../app', ''])(
    'refuses the invalid name %j',
    async (name) => {
      await using upstreams = await open(ECR, HUB);
      expect(() => upstreams.select({ name })).toThrow(expect.objectContaining({ code: 'NAME_INVALID' }));
    },
  );

  it('says what to do when nothing selects an upstream', async () => {
    await using upstreams = await open(ECR);
    expect(() => upstreams.select({ name: 'app' })).toThrow(
      expect.objectContaining({ code: 'NAME_UNKNOWN', message: expect.stringContaining('ecr') as string }),
    );
  });
});

describe('mayReceiveCredentials', () => {
  it.each([
    ['https://auth.docker.io/token', 'https://registry-1.docker.io', true],
    ['https://registry.example.com/token', 'https://registry.example.com', true],
    ['http://auth.docker.io/token', 'https://registry-1.docker.io', false],
    ['https://gitlab.example.co.uk/jwt/auth', 'https://registry.example.co.uk', true],
    ['https://evil.co.uk/token', 'https://registry.example.co.uk', false],
    ['https://co.uk/token', 'https://registry.co.uk', false],
    ['https://evil.amazonaws.com/token', 'https://1.dkr.ecr.eu-west-1.amazonaws.com', false],
    ['https://evil.s3.cn-north-1.amazonaws.com.cn/', 'https://1.dkr.ecr.cn-north-1.amazonaws.com.cn', false],
    ['https://evil.azurecr.io/oauth2/token', 'https://mine.azurecr.io', false],
    ['https://mine.azurecr.io/oauth2/token', 'https://mine.azurecr.io', true],
    ['https://docker.io.evil.com/token', 'https://registry-1.docker.io', false],
    ['https://10.0.0.1/token', 'https://10.0.0.2', false],
    ['http://127.0.0.1:5001/token', 'http://127.0.0.1:5000', true],
    // Registrable domains by the public suffix list: of countries, of cities, and of providers that give
    // names to customers.
    ['https://auth.example.co.uk/token', 'https://registry.example.co.uk', true],
    ['https://evil.co.uk/token', 'https://registry.co.uk', false],
    ['https://auth.team.city.kawasaki.jp/token', 'https://registry.team.city.kawasaki.jp', true],
    ['https://evil.kawasaki.jp/token', 'https://team.kawasaki.jp', false],
    ['https://evil.github.io/token', 'https://team.github.io', false],
    ['https://auth.team.github.io/token', 'https://registry.team.github.io', true],
    ['https://evil.s3.eu-west-1.amazonaws.com/token', 'https://team.s3.eu-west-1.amazonaws.com', false],
    ['https://x.execute-api.eu-west-1.amazonaws.com/t', 'https://1.dkr.ecr.eu-west-1.amazonaws.com', false],
    ['https://evil.azurecr.io/token', 'https://team.azurecr.io', false],
    ['https://evil.blogspot.com/token', 'https://team.blogspot.com', false],
    ['https://evil.com.br/token', 'https://team.com.br', false],
    ['https://evil.gov.br/token', 'https://team.gov.br', false],
    ['https://evil.k12.ca.us/token', 'https://team.k12.ca.us', false],
    ['https://evil.jfrog.io/token', 'https://team.jfrog.io', false],
    ['http://evil.stranger.svc.cluster.local/t', 'http://registry.team.svc.cluster.local', false],
  ])('%s for %s: %s', (realm, upstream, expected) => {
    expect(mayReceiveCredentials(new URL(realm), new URL(upstream), [])).toBe(expected);
  });
});
