import { formatReference, parseImageReference } from '../core/image-reference.ts';

/** Default address of `spandrel serve`. */
export const USUAL_PROXY = 'http://127.0.0.1:5000';

/** Default address of its admin listener. */
export const USUAL_ADMIN = 'http://127.0.0.1:5001';

/** An image as callers write it: `upstream/repository[:tag][@digest][@os/architecture]`. */
export interface ProxyImage {
  /** `<proxy>/v2/<name>` */
  readonly repositoryUrl: string;
  readonly reference: string;
  readonly platform: string | undefined;
}

/**
 * Parses an image; removes the proxy's own address from its name. @throws SpandrelError TAG_INVALID,
 * DIGEST_INVALID
 */
export function locateImage(proxy: string, text: string): ProxyImage {
  const at = text.lastIndexOf('@');
  const isPlatform = at > 0 && /^[^:]+\/[^:]+$/.test(text.slice(at + 1));
  const { name, reference } = parseImageReference(isPlatform ? text.slice(0, at) : text);
  const base = new URL(proxy);
  const repository = name.startsWith(`${base.host}/`) ? name.slice(base.host.length + 1) : name;
  return {
    repositoryUrl: `${base.href.replace(/\/+$/, '')}/v2/${repository}`,
    reference: formatReference(reference),
    platform: isPlatform ? text.slice(at + 1) : undefined,
  };
}
