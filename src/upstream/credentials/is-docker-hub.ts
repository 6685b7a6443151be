const HOSTS: ReadonlySet<string> = new Set(['docker.io', 'index.docker.io', 'registry-1.docker.io']);

/** True for the names of Docker Hub in image references and in `ns`. */
export function isDockerHub(host: string): boolean {
  return HOSTS.has(host.toLowerCase());
}

/** Replaces the host of Docker Hub by that of its registry API. Returns other URLs unchanged. */
export function reachableUrl(url: URL): URL {
  const reachable = new URL(url);
  if (isDockerHub(url.hostname)) reachable.hostname = 'registry-1.docker.io';
  return reachable;
}

/** On Docker Hub, `alpine` is short for `library/alpine`. */
export function fullRepository(host: string, repository: string): string {
  return isDockerHub(host) && !repository.includes('/') ? `library/${repository}` : repository;
}
