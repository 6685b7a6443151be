import { installTools } from './install-tools.mjs';
import { TEST_PROGRAMS } from './programs.mjs';
import { installPythonTools } from './python-tools.mjs';

/** What the tests run against. */
export function installTestTools() {
  installTools(TEST_PROGRAMS);
  installPythonTools();
}
