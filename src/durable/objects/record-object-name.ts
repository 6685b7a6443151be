/**
 * Name of a record: its key as a path. `tag:1:up/app:latest` is `records/tag/1/up/app/latest`. Manifests are
 * named by their digest and are stored as they are.
 */
export function recordObjectName(prefix: string, key: string): string {
  const path = key.split(':').map((part) => part.replace(/[^\w./-]/g, encodeURIComponent));
  return `${prefix}${key.startsWith('manifest:') ? '' : 'records/'}${path.join('/')}`;
}
