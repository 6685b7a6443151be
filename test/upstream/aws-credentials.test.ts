import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import { setAwsEnvironment, STATIC_KEYS } from '../helpers/upstreams/aws-environment.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { EcrControlPlane, tokenOf } from '../helpers/upstreams/ecr-control-plane.ts';
import { EcrRegistry } from '../helpers/upstreams/ecr-registry.ts';
import { MotoServer, motoToken } from '../helpers/upstreams/moto-server.ts';
import { makeSecret } from '../helpers/secrets.ts';
import { openClient } from '../helpers/clients/registry-clients.ts';
import { ScriptedUpstream } from '../helpers/upstreams/scripted-upstream.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';

const HOST = '123456789012.dkr.ecr.eu-west-1.amazonaws.com';
const MANIFEST = Buffer.from('{"schemaVersion":2}');
const ROLE = 'arn:aws:iam::210987654321:role/puller';

let registry: EcrRegistry;
let folder: string;

beforeEach(async () => {
  registry = cleanup.use(await EcrRegistry.start());
  registry.addManifest('1.0', MANIFEST);
  folder = await temporaryFolder();
});

afterEach(async () => {
  vi.unstubAllEnvs();
});

/** Fetch a manifest as an upstream with `auth` does. */
async function pull(auth: object): Promise<void> {
  const upstream = { name: 'ecr', host: HOST, url: registry.url, auth: { kind: 'ecr', ...auth } };
  await using opened = await openClient(upstream);
  const manifest = await opened.client.fetchManifest('team/app', { tag: '1.0' });
  expect(Buffer.from(manifest.bytes).equals(MANIFEST)).toBe(true);
}

/** An EcrControlPlane that hands out the only token that the registry takes, to `accessKey`. */
async function startControlPlane(accessKey: string): Promise<EcrControlPlane> {
  registry.goodTokens.add(tokenOf(accessKey, 1));
  return cleanup.use(await EcrControlPlane.start());
}

describe('a token of ECR is requested with', () => {
  it('keys from the environment', async () => {
    const { url: endpoint } = await startControlPlane('AKIASTATIC');
    setAwsEnvironment(STATIC_KEYS);
    await pull({ endpoint });
  });

  it("the machine's role (instance profile, IMDSv2)", async () => {
    const { url: endpoint } = await startControlPlane('ASIAMACHINE');
    const metadata = cleanup.use(
      await ScriptedUpstream.start(({ method, url, headers }, response) => {
        if (method === 'PUT' && url === '/latest/api/token') response.end('session');
        else if (headers['x-aws-ec2-metadata-token'] !== 'session') response.writeHead(401).end();
        else if (url.endsWith('/security-credentials/')) response.end('node-role');
        else response.end(JSON.stringify(session('ASIAMACHINE')));
      }),
    );
    setAwsEnvironment({
      AWS_EC2_METADATA_DISABLED: 'false',
      AWS_EC2_METADATA_SERVICE_ENDPOINT: metadata.url,
    });
    await pull({ endpoint });
    expect(metadata.requests.at(-1)?.url).toBe('/latest/meta-data/iam/security-credentials/node-role');
  });

  it("a pod's identity (EKS Pod Identity)", async () => {
    const { url: endpoint } = await startControlPlane('ASIAPOD');
    const agent = cleanup.use(
      await ScriptedUpstream.start(({ headers }, response) => {
        if (headers.authorization === 'of the pod') response.end(JSON.stringify(session('ASIAPOD')));
        else response.writeHead(401).end();
      }),
    );
    const token = join(folder, 'token');
    await writeFile(token, 'of the pod');
    setAwsEnvironment({
      AWS_CONTAINER_CREDENTIALS_FULL_URI: `${agent.url}/v1/credentials`,
      AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: token,
    });
    await pull({ endpoint });
    expect(agent.requests.map(({ url }) => url)).toEqual(['/v1/credentials']);
  });
});

describe('against moto', () => {
  it('keys get a token of ECR, and a role that STS gives them one of its account', async () => {
    const moto = cleanup.use(await MotoServer.start());
    setAwsEnvironment({ ...STATIC_KEYS, AWS_ENDPOINT_URL_STS: moto.url });
    registry.goodTokens.add(motoToken('123456789012'));
    await pull({ endpoint: moto.url });

    registry.goodTokens.clear();
    registry.goodTokens.add(motoToken('210987654321'));
    await pull({ endpoint: moto.url, roleArn: ROLE });
  });

  it('a web identity does (IRSA)', async () => {
    const moto = cleanup.use(await MotoServer.start());
    const token = join(folder, 'token');
    await writeFile(token, makeSecret('web identity token', 'header.claims.'));
    setAwsEnvironment({
      AWS_ENDPOINT_URL_STS: moto.url,
      AWS_WEB_IDENTITY_TOKEN_FILE: token,
      AWS_ROLE_ARN: ROLE,
    });
    registry.goodTokens.add(motoToken('210987654321'));
    await pull({ endpoint: moto.url });
  });
});

/** Credentials as metadata services hand them out. */
function session(accessKey: string): object {
  return {
    Code: 'Success',
    AccessKeyId: accessKey,
    SecretAccessKey: makeSecret('AWS secret access key'),
    Token: makeSecret('AWS session token'),
    Expiration: new Date(Date.now() + 6 * 3600_000).toISOString(),
  };
}
