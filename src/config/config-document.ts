import { CONFIG_KEYS, type ConfigPath, environmentName } from './schema.ts';

interface Row {
  readonly path: ConfigPath;
  readonly fallback: string | undefined;
  readonly meaning: string;
  readonly expects: string;
}

function rows(): Row[] {
  return (Object.keys(CONFIG_KEYS) as ConfigPath[]).map((path) => {
    const key: { kind: { expects: string }; fallback?: string | number | boolean; meaning: string } =
      CONFIG_KEYS[path];
    return {
      path,
      meaning: key.meaning,
      expects: key.kind.expects,
      fallback: key.fallback === undefined ? undefined : String(key.fallback),
    };
  });
}

/** The configuration table of the README, in Markdown. */
export function printConfigTable(): string {
  const lines = rows().map(
    ({ path, fallback, meaning }) =>
      `| \`${path}\` | ${fallback === undefined ? '–' : `\`${fallback}\``} | ${meaning} |`,
  );
  return ['| key | default | meaning |', '|---|---|---|', ...lines].join('\n');
}

/** `config/spandrel.yaml`: every key with its meaning and default; keys without a default are commented out. */
export function printDefaultConfig(): string {
  const lines = [
    '# Spandrel configuration. Every key is shown with its default; keys without one are commented out.',
    '# Each can also be set as an environment variable: storage.maxBytes is SPANDREL_STORAGE_MAX_BYTES; lists are JSON there.',
  ];
  let open: string[] = [];
  for (const { path, fallback, meaning, expects } of rows()) {
    const names = path.split('.');
    const leaf = names.pop() ?? path;
    const shared = names.findIndex((name, depth) => open[depth] !== name);
    for (let depth = shared < 0 ? names.length : shared; depth < names.length; depth++) {
      if (depth === 0) lines.push('');
      lines.push(`${'  '.repeat(depth)}${names[depth] ?? ''}:`);
    }
    if (names.length === 0) lines.push('');
    open = names;
    const indent = '  '.repeat(names.length);
    lines.push(`${indent}# ${meaning.replaceAll('`', '')}: ${expects} (${environmentName(path)})`);
    lines.push(fallback === undefined ? `${indent}# ${leaf}:` : `${indent}${leaf}: ${fallback}`);
  }
  return `${lines.join('\n')}\n`;
}
