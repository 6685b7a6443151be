import { readFile } from 'node:fs/promises';

import type { Config } from '../../config/config-keys.ts';
import { parseConfig } from '../../config/parse-config.ts';
import { parseEcrHost } from '../../core/ecr-host.ts';
import { isLoopback } from '../../core/is-loopback.ts';
import { nodeErrorCode } from '../../core/node-error-code.ts';
import { dockerConfigPath } from '../../upstream/credentials/docker-credentials.ts';
import { isDockerHub } from '../../upstream/credentials/is-docker-hub.ts';
import { parseDockerConfig } from '../../upstream/credentials/parse-docker-config.ts';
import type { Environment } from '../../upstream/transport/proxy-choice.ts';

/**
 * The configuration with which to reach the registry of `name`: as it is if one of its upstreams is meant,
 * else with that registry as its only upstream, by the rules of docker: Docker Hub if the name has no host,
 * http on this machine, credentials of `docker login`. ECR without such credentials gets those of AWS.
 * @param name of an image, without its tag
 */
export async function chooseRegistry(
  name: string,
  config: Config,
  environment: Environment,
  isPlainHttp: boolean,
): Promise<{ config: Config; name: string }> {
  const [first = '', ...rest] = name.split('/');
  const hasHost = rest.length > 0 && /[.:]|^localhost$/.test(first);
  const upstreams = config.upstreams ?? [];
  const isConfigured = upstreams.some(
    (upstream) =>
      [upstream.name, upstream.host].includes(first) ||
      (isDockerHub(upstream.host) && isDockerHub(hasHost ? first : 'docker.io')) ||
      (upstream.repositoryPrefix !== undefined && new URL(upstream.url).host === first),
  );
  if (isConfigured || (!hasHost && upstreams.some((upstream) => upstream.default))) return { config, name };
  const host = hasHost ? first : 'docker.io';
  const isHttp = isPlainHttp || isLoopback(new URL(`http://${host}`).hostname);
  const upstream = {
    host,
    url: `${isHttp ? 'http' : 'https'}://${host}`,
    auth: { kind: await chooseAuth(host, environment) },
  };
  const variables = { ...environment, SPANDREL_UPSTREAMS: JSON.stringify([upstream]) };
  const found = parseConfig({ yaml: '', environment: variables });
  return { config: { ...config, upstreams: found.upstreams }, name: hasHost ? name : `${host}/${name}` };
}

async function chooseAuth(
  host: string,
  environment: Environment,
): Promise<'docker-config' | 'ecr' | 'anonymous'> {
  const without = parseEcrHost(host) === undefined ? 'anonymous' : 'ecr';
  let text: string;
  try {
    text = await readFile(dockerConfigPath(environment), 'utf8');
  } catch (error) {
    if (nodeErrorCode(error) === 'ENOENT') return without;
    // The credential source reports it.
    return 'docker-config';
  }
  try {
    const { helper, credentials } = parseDockerConfig(text, [host]);
    return helper === undefined && credentials === undefined ? without : 'docker-config';
  } catch (error) {
    if (error instanceof SyntaxError || error instanceof TypeError) return 'docker-config';
    throw error;
  }
}
