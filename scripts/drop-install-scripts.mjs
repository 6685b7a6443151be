// Packages that are bundled in ours bring their binaries along. Their install scripts have nothing to do, and
// fail where the packaged Node, which npm runs them with, lacks libatomic.
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const SCRIPTS = ['preinstall', 'install', 'postinstall'];

/**
 * Removes the install scripts of packages with prebuilt binaries.
 * @param {string} folder with packages: `node_modules`
 * @returns {string[]} their names
 */
export function dropInstallScripts(folder) {
  return readdirSync(folder).filter((name) => {
    const file = join(folder, name, 'package.json');
    if (!existsSync(join(folder, name, 'prebuilds')) || !existsSync(file)) return false;
    const { scripts = {}, ...rest } = JSON.parse(readFileSync(file, 'utf8'));
    for (const script of SCRIPTS) delete scripts[script];
    // npm would run node-gyp for a package with a binding.gyp and no script.
    const text = JSON.stringify({ ...rest, scripts, gypfile: false }, undefined, 2);
    // The file may have other links, in other checkouts.
    rmSync(file);
    writeFileSync(file, `${text}\n`);
    return true;
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) dropInstallScripts('node_modules');
