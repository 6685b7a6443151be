import { installTools } from './install-tools.mjs';

/** What the tests run against. */
export function installTestTools() {
  installTools(['redis-server', 'docker-registry', 'skopeo', 'pigz', 'zstd', 'openssl']);
}
