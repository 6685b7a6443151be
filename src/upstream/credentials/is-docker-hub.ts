const HOSTS: ReadonlySet<string> = new Set(['docker.io', 'index.docker.io', 'registry-1.docker.io']);

/** True for the names that Docker Hub goes by in image references and in `ns`. */
export function isDockerHub(host: string): boolean {
  return HOSTS.has(host.toLowerCase());
}

/** Docker Hub answers the registry API at a host of its own. Other URLs are left as they are. */
export function reachableUrl(url: URL): URL {
  const reachable = new URL(url);
  if (isDockerHub(url.hostname)) reachable.hostname = 'registry-1.docker.io';
  return reachable;
}

/** `alpine` is short for `library/alpine`, on Docker Hub only. */
export function fullRepository(host: string, repository: string): string {
  return isDockerHub(host) && !repository.includes('/') ? `library/${repository}` : repository;
}
