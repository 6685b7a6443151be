import { SpandrelError } from './errors.ts';
import { isWindowsVersionCompatible } from './is-windows-version-compatible.ts';

/** `platform` of a descriptor in an OCI image index. */
export interface Platform {
  readonly architecture: string;
  readonly os: string;
  readonly 'os.version'?: string;
  readonly 'os.features'?: readonly string[];
  readonly variant?: string;
}

const KNOWN_OSES =
  'aix android darwin dragonfly freebsd hurd illumos ios js linux nacl netbsd openbsd plan9 solaris ' +
  'windows zos';
const KNOWN_ARCHITECTURES =
  '386 amd64 amd64p32 arm armbe arm64 arm64be ppc64 ppc64le loong64 mips mipsle mips64 mips64le ' +
  'mips64p32 mips64p32le ppc riscv riscv64 s390 s390x sparc sparc64 wasm';
const OS_FORM = /^([A-Za-z0-9_-]+)(?:\(([A-Za-z0-9_.-]*)((?:\+[A-Za-z0-9_.-]+)*)\))?$/;
const PART_FORM = /^[A-Za-z0-9_.-]+$/;

const USUAL_PLATFORM: Platform = { os: 'linux', architecture: 'amd64' };

/** Go's names of architectures that Node calls otherwise. */
const GO_ARCHITECTURES: Readonly<Record<string, string>> = { x64: 'amd64', ia32: '386', ppc64: 'ppc64le' };

/** The platform of Linux containers on a machine of Node's architecture `nodeArchitecture` (`os.arch()`). */
export function containerPlatform(nodeArchitecture: string): Platform {
  return { os: 'linux', architecture: GO_ARCHITECTURES[nodeArchitecture] ?? nodeArchitecture };
}

/**
 * Parses a platform specifier as containerd's tools do: `os/arch[/variant]`, `os`, `arch`, or
 * `windows(10.0.17763)/amd64` (containerd `platforms`, Parse). Missing parts come from `host`, by default
 * linux/amd64.
 * @throws SpandrelError QUERY_INVALID
 */
export function parsePlatform(text: string, host: Platform = USUAL_PLATFORM): Platform {
  const parts = text.split('/');
  const [first = '', architecture, variant = ''] = parts;
  const [, osName, osVersion = '', features = ''] = OS_FORM.exec(first) ?? [];
  if (osName === undefined || parts.length > 3 || !parts.slice(1).every((part) => PART_FORM.test(part)))
    throw invalid(text);
  const os = {
    os: normalizeOs(osName),
    ...(osVersion === '' ? {} : { 'os.version': osVersion }),
    ...(features === '' ? {} : { 'os.features': features.slice(1).split('+') }),
  };
  if (architecture === undefined) return parseShort(text, os, host);
  const normal = normalizeArchitecture(architecture, variant);
  if (parts.length === 2) return { ...os, ...withoutVariant(normal, 'arm', 'v7') };
  // A specifier that names arm64's variant keeps it, although it is the default (as containerd does).
  return normal.architecture === 'arm64' && normal.variant === undefined
    ? { ...os, ...normal, variant: 'v8' }
    : { ...os, ...normal };
}

function parseShort(text: string, os: Omit<Platform, 'architecture'>, host: Platform): Platform {
  if (KNOWN_OSES.split(' ').includes(os.os)) return { ...os, architecture: host.architecture };
  const normal = normalizeArchitecture(text, '');
  if (!KNOWN_ARCHITECTURES.split(' ').includes(normal.architecture)) throw invalid(text);
  return { os: host.os, ...withoutVariant(normal, 'arm', 'v7') };
}

/** `os/arch[/variant]`. */
export function formatPlatform({ os, architecture, variant }: Platform): string {
  return [os, architecture, variant].filter((part) => part !== undefined && part !== '').join('/');
}

/**
 * The canonical form: `x86_64` becomes `amd64`, and arm64 loses its default variant `v8` (containerd
 * `platforms`, Normalize).
 */
export function normalizePlatform(platform: Platform): Platform {
  const { os, architecture, variant, ...rest } = platform;
  return { ...rest, os: normalizeOs(os), ...normalizeArchitecture(architecture, variant ?? '') };
}

/**
 * True if an image for `offered` runs on `wanted`: same system, architecture and variant, a compatible
 * Windows version, and no feature that `wanted` lacks (containerd `platforms`, OnlyStrict).
 */
export function matchesPlatform(wanted: Platform, offered: Platform): boolean {
  const a = normalizePlatform(wanted);
  const b = normalizePlatform(offered);
  if (a.os !== b.os || a.architecture !== b.architecture || a.variant !== b.variant) return false;
  if (wanted.os === 'windows' && !isWindowsVersionCompatible(a['os.version'] ?? '', b['os.version'] ?? ''))
    return false;
  // `win32k` was once listed as a feature, though every Windows has it.
  const isImplied = (feature: string): boolean => wanted.os === 'windows' && feature === 'win32k';
  const has = new Set(a['os.features']);
  return (b['os.features'] ?? []).every((feature) => has.has(feature) || isImplied(feature));
}

function normalizeOs(os: string): string {
  const lower = os.toLowerCase();
  if (lower === '') return 'linux';
  return lower === 'macos' ? 'darwin' : lower;
}

type Architecture = Pick<Platform, 'architecture' | 'variant'>;

function normalizeArchitecture(architecture: string, variant: string): Architecture {
  const lower = architecture.toLowerCase();
  const kind = variant.toLowerCase();
  switch (lower) {
    case 'i386':
      return { architecture: '386' };
    case 'x86_64':
    case 'x86-64':
    case 'amd64':
      return named('amd64', kind === 'v1' ? '' : kind);
    case 'aarch64':
    case 'arm64':
      if (['8', 'v8', 'v8.0'].includes(kind)) return { architecture: 'arm64' };
      return named('arm64', ['9', '9.0', 'v9.0'].includes(kind) ? 'v9' : kind);
    case 'armhf':
      return named('arm', 'v7');
    case 'armel':
      return named('arm', 'v6');
    case 'arm':
      if (kind === '') return named('arm', 'v7');
      return named('arm', /^[5-8]$/.test(kind) ? `v${kind}` : kind);
    default:
      return named(lower, kind);
  }
}

function named(architecture: string, variant: string): Architecture {
  return variant === '' ? { architecture } : { architecture, variant };
}

function withoutVariant(value: Architecture, architecture: string, variant: string): Architecture {
  return value.architecture === architecture && value.variant === variant ? { architecture } : value;
}

function invalid(text: string): SpandrelError {
  return new SpandrelError(
    'QUERY_INVALID',
    `not a platform like linux/amd64 or linux/arm/v7: ${text.slice(0, 100)}`,
  );
}
