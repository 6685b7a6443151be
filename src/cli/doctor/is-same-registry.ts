import { parseEcrHost } from '../../core/ecr-host.ts';
import { isDockerHub } from '../../upstream/credentials/is-docker-hub.ts';

/** Whether two host names are of one registry: Docker Hub and ECR have several. */
export function isSameRegistry(a: string, b: string): boolean {
  if (a.toLowerCase() === b.toLowerCase() || (isDockerHub(a) && isDockerHub(b))) return true;
  const [one, other] = [parseEcrHost(a), parseEcrHost(b)];
  if (one?.kind !== 'private' || other?.kind !== 'private')
    return one !== undefined && one.kind === other?.kind;
  return one.account === other.account && one.region === other.region;
}

/** Where containerd asks for a registry without hosts.toml. */
export function serverOf(registry: string): string {
  return `https://${isDockerHub(registry) ? 'registry-1.docker.io' : registry}`;
}
