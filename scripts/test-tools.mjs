import { installTools } from './install-tools.mjs';
import { installPythonTools } from './python-tools.mjs';

/** What the tests run against. */
export function installTestTools() {
  installTools(['redis-server', 'docker-registry', 'skopeo', 'pigz', 'zstd', 'openssl', 'python3']);
  installPythonTools();
}
