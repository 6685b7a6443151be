import type { ClientKind } from './history.ts';

const OCI = 'application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json';
const DOCKER =
  'application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json';

/** Headers that each client sends. */
export const HEADERS: Readonly<Record<ClientKind, Readonly<Record<string, string>>>> = {
  containerd: { 'user-agent': 'containerd/2.2.6+unknown', accept: `${DOCKER}, ${OCI}, */*` },
  mirror: { 'user-agent': 'containerd/2.2.6+unknown', accept: `${DOCKER}, ${OCI}, */*` },
  docker: {
    'user-agent': 'docker/29.1.0 go/go1.25 os/linux arch/amd64',
    accept: `${OCI}, ${DOCKER}`,
    'accept-encoding': 'identity',
  },
  skopeo: {
    'user-agent': 'skopeo/1.18.0',
    accept: `${OCI}, ${DOCKER}`,
    'docker-distribution-api-version': 'registry/2.0',
  },
  snapshotter: {
    'user-agent': 'soci-snapshotter/0.15.0',
    accept: `${DOCKER}, ${OCI}`,
    'accept-encoding': 'identity',
  },
  curl: { 'user-agent': 'curl/8.17.0', accept: '*/*' },
};

/**
 * The URL of something in a repository: with a mirror, the query names the registry (containerd
 * `hosts.toml`).
 */
export function urlOf(base: string, client: ClientKind, repository: string, path: string): string {
  if (client === 'mirror') return `${base}/v2/${repository}/${path}?ns=registry.test`;
  return `${base}/v2/up/${repository}/${path}`;
}

let addresses = 0;

/** Each node has its own address, by which the proxy tells nodes apart. */
export function nextAddress(): string {
  addresses = (addresses + 1) % 2 ** 16;
  return `127.1.${addresses >> 8}.${addresses & 255}`;
}
