import type { Config } from '../../config/config-keys.ts';

interface FirstScreen {
  readonly registryUrl: string;
  readonly adminUrl: string;
  /** Path of the configuration file, which may be missing. */
  readonly configFile: string;
  /** The upstreams are in that file: other commands can read them too. */
  readonly isFromFile: boolean;
  /** Empty if the embedded demo registry is the upstream. */
  readonly upstreams: NonNullable<Config['upstreams']>;
}

/** The image of the embedded registry, as the proxy serves it. */
export const DEMO_IMAGE = 'demo/app:latest';
const USUAL_PORT = '5000';

/** What a person needs after the start: where the proxy is, what to try, and how to stop it. */
export function printFirstScreen(screen: FirstScreen): string {
  const { upstreams, configFile } = screen;
  const isDemo = upstreams.length === 0;
  const about = isDemo
    ? `No upstreams are configured: an embedded registry serves the demo image ${DEMO_IMAGE}.`
    : `Upstreams: ${upstreams.map(({ name, host }) => `${name} (${host})`).join(', ')}.`;
  const next = isDemo
    ? `Name your own registry under "upstreams" in ${configFile}.`
    : `Clients pull ${new URL(screen.registryUrl).host}/UPSTREAM/REPOSITORY:TAG.`;
  return [
    `spandrel: ${readyMessage(screen)}`,
    '',
    `  ${about}`,
    '  Try in another terminal, in this folder:',
    '',
    ...commandsOf(screen).map((line) => `    ${line}`),
    '',
    `  ${next}`,
    '  Stop with Ctrl+C.',
    '',
    '',
  ].join('\n');
}

/** Says that both listeners are open. */
export function readyMessage({
  registryUrl,
  adminUrl,
}: Pick<FirstScreen, 'registryUrl' | 'adminUrl'>): string {
  return `registry and span API at ${registryUrl}, operations at ${adminUrl}`;
}

/** npx finds the command in a checkout, in a project that has it installed, and where it is global. */
function commandsOf({ registryUrl, adminUrl, configFile, isFromFile, upstreams }: FirstScreen): string[] {
  const { port, hostname, protocol } = new URL(registryUrl);
  const isUsual = port === USUAL_PORT && protocol === 'http:' && hostname === '127.0.0.1';
  const proxy = isUsual ? '' : ` --proxy ${registryUrl}`;
  if (upstreams.length === 0)
    return [
      `npx spandrel ls ${DEMO_IMAGE} /app${proxy}`,
      `npx spandrel cat ${DEMO_IMAGE} /app/main.py${proxy}`,
      `npx spandrel doctor ${DEMO_IMAGE} --no-node${proxy}`,
    ];
  return [
    `npx spandrel doctor${isFromFile ? ` --config ${configFile}` : ''} --no-node${proxy}`,
    `curl ${registryUrl}/`,
    `curl ${adminUrl}/readyz`,
  ];
}
