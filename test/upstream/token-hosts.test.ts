import { beforeEach, describe, expect, it } from 'vitest';

import { Secret } from '../../src/core/secret.ts';
import { mayReceiveCredentials } from '../../src/upstream/auth/may-receive-credentials.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { basic } from '../helpers/upstreams/private-registry.ts';
import { type OpenClient, openClient } from '../helpers/clients/registry-clients.ts';
import { type Script, ScriptedUpstream } from '../helpers/upstreams/scripted-upstream.ts';
import { makeSecret } from '../helpers/secrets.ts';

const password = makeSecret('password for a token service elsewhere');
const AUTHORIZATION = basic('me', password);

/** In another domain than the registry: `localhost` is not 127.0.0.1. */
let tokens: ScriptedUpstream;
let registry: ScriptedUpstream;

const giveToken: Script = ({ headers }, response) =>
  response.end(JSON.stringify({ token: headers.authorization === AUTHORIZATION ? 'good' : 'anonymous' }));

beforeEach(async () => {
  tokens = cleanup.use(await ScriptedUpstream.start(giveToken, 'localhost'));
  registry = cleanup.use(
    await ScriptedUpstream.start(({ headers }, response) => {
      if (headers.authorization === 'Bearer good') return void response.end('{"tags":["1"]}');
      response.writeHead(401, { 'www-authenticate': `Bearer realm="${tokens.url}/token",service="s"` }).end();
    }),
  );
});

async function connect(fields: object): Promise<OpenClient['client']> {
  const auth = { kind: 'basic', username: 'me', password };
  return cleanup.use(await openClient({ name: 'test', url: registry.url, auth, ...fields })).client;
}

describe('a token service of another domain', () => {
  it('gets the credentials if tokenHosts names it', async () => {
    const client = await connect({ tokenHosts: [new URL(tokens.url).host] });
    expect((await client.listTags('app')).tags).toEqual(['1']);
    expect(tokens.requests.map(({ headers }) => headers.authorization)).toEqual([AUTHORIZATION]);
    expect(registry.requests).toHaveLength(2);
  });

  it.each([
    ['no others', []],
    ['another host', ['auth.example.com']],
    ['another port', ['localhost:1']],
    ['the host without its port', ['localhost']],
  ])('gets none if tokenHosts has %s, and the error says what to do', async (_name, tokenHosts) => {
    const client = await connect({ tokenHosts });
    await expect(client.listTags('app')).rejects.toMatchObject({
      code: 'UPSTREAM_CREDENTIALS_REFUSED',
      message: `upstream test answered 401; its token service ${new URL(tokens.url).host} is in another domain and gets no credentials: allow it in tokenHosts`,
    });
    expect(tokens.requests.map(({ headers }) => headers.authorization)).toEqual([undefined]);
  });

  it('that refuses anonymous requests is reported with what to do', async () => {
    tokens = cleanup.use(
      await ScriptedUpstream.start(
        (_request, response) => response.writeHead(403).end('{"errors":[{"message":"who are you?"}]}'),
        'localhost',
      ),
    );
    const client = await connect({});
    await expect(client.listTags('app')).rejects.toMatchObject({
      code: 'UPSTREAM_CREDENTIALS_REFUSED',
      message: expect.stringMatching(
        /^upstream test: its token service answered 403; its token service localhost:\d+ is in another domain/,
      ) as string,
    });
  });

  it("gets a client's credentials under the same rule", async () => {
    const ask = async (tokenHosts: readonly string[]): Promise<unknown> => {
      const client = await connect({ tokenHosts });
      const authorization = new Secret(AUTHORIZATION);
      return client.probe('app', { kind: 'tags' }, { authorization, answersChallenges: true });
    };
    expect(await ask([])).toMatchObject({ kind: 'refused' });
    expect(tokens.requests.map(({ headers }) => headers.authorization)).toEqual([undefined]);
    expect(await ask([new URL(tokens.url).host])).toEqual({ kind: 'readable' });
  });
});

describe('tokenHosts', () => {
  it.each([
    ['https://authn.nvidia.com/token', 'https://nvcr.io', ['authn.nvidia.com'], true],
    ['https://authn.nvidia.com:8443/token', 'https://nvcr.io', ['authn.nvidia.com'], false],
    ['https://authn.nvidia.com:8443/token', 'https://nvcr.io', ['authn.nvidia.com:8443'], true],
    ['https://evil.authn.nvidia.com/token', 'https://nvcr.io', ['authn.nvidia.com'], false],
    ['http://authn.nvidia.com/token', 'https://nvcr.io', ['authn.nvidia.com'], false],
  ])('allow %s of %s to receive credentials with %j: %s', (realm, upstream, hosts, expected) => {
    expect(mayReceiveCredentials(new URL(realm), new URL(upstream), hosts)).toBe(expected);
  });
});
