interface WindowsVersion {
  readonly major: number;
  readonly minor: number;
  readonly build: number;
}

const SERVER_2022 = 20_348;
const SERVER_2025 = 26_100;

/**
 * True if a Windows host of version `host` runs containers of version `container`. Server 2022 and later run
 * those between the last long-term release and their own version; older hosts run only their own version.
 * True if either version is missing.
 * @see containerd `platforms/platform_windows_compat.go`
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

/** Parses `major.minor.build[.revision]`. */
function parseVersion(text: string): WindowsVersion | undefined {
  const [, major, minor, build] = /^(\d{1,3})\.(\d{1,3})\.(\d{1,5})(?:\.|$)/.exec(text) ?? [];
  if (major === undefined || minor === undefined || build === undefined) return undefined;
  const version = { major: Number(major), minor: Number(minor), build: Number(build) };
  const isInRange = version.major <= 255 && version.minor <= 255 && version.build <= 65_535;
  const isZero = version.major === 0 && version.minor === 0 && version.build === 0;
  return isInRange && !isZero ? version : undefined;
}
