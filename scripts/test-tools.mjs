import { installHelm } from './helm-tool.mjs';
import { installPrograms } from './install-programs.mjs';
import { installPythonTools } from './python-tools.mjs';

/** The programs that tests and measurements use. */
export function installTestTools() {
  installPrograms();
  installPythonTools();
  installHelm();
}
