interface WindowsVersion {
  readonly major: number;
  readonly minor: number;
  readonly build: number;
}

const SERVER_2022 = 20_348;
const SERVER_2025 = 26_100;

/**
 * True if a Windows of version `host` runs containers of version `container`: from Server 2022 on those between the last
 * long-term release and its own, before only its own. Without a version there is nothing to compare.
 * Source: containerd `platforms/platform_windows_compat.go`.
 */
export function isWindowsVersionCompatible(host: string, container: string): boolean {
  const a = parseVersion(host);
  if (a === undefined || container === '') return true;
  const b = parseVersion(container);
  if (b === undefined || a.major !== b.major || a.minor !== b.minor) return false;
  if (a.build < SERVER_2022) return a.build === b.build;
  const oldest = a.build > SERVER_2025 ? SERVER_2025 : SERVER_2022;
  return oldest <= b.build && b.build <= a.build;
}

/** `major.minor.build[.revision]`; `undefined` for anything else. */
function parseVersion(text: string): WindowsVersion | undefined {
  const [, major, minor, build] = /^(\d{1,3})\.(\d{1,3})\.(\d{1,5})(?:\.|$)/.exec(text) ?? [];
  if (major === undefined || minor === undefined || build === undefined) return undefined;
  const version = { major: Number(major), minor: Number(minor), build: Number(build) };
  const isInRange = version.major <= 255 && version.minor <= 255 && version.build <= 65_535;
  const isZero = version.major === 0 && version.minor === 0 && version.build === 0;
  return isInRange && !isZero ? version : undefined;
}
