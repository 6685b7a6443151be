import { installTools } from './install-tools.mjs';
import { PROGRAMS } from './programs.mjs';
import { installPythonTools } from './python-tools.mjs';

/** What the tests run against. */
export function installTestTools() {
  installTools(Object.keys(PROGRAMS));
  installPythonTools();
}
