import { installPrograms } from './install-programs.mjs';
import { installPythonTools } from './python-tools.mjs';

/** What tests and measurements run against. */
export function installTestTools() {
  installPrograms();
  installPythonTools();
}
