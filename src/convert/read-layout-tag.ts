import { decodeOciIndex } from '../soci/oci-manifest.ts';
import { type OciLayout, readIndexJson } from './oci-layout.ts';

/** The tag, or the whole name: OCI image spec, "image-layout", index.json. */
const REF_NAME = 'org.opencontainers.image.ref.name';

/**
 * The tag of the image in a layout, as its `index.json` names it; `undefined` if there is none, or several.
 */
export async function readLayoutTag(layout: OciLayout): Promise<string | undefined> {
  const { manifests } = decodeOciIndex(await readIndexJson(layout));
  const names = new Set((manifests ?? []).map(({ annotations }) => annotations?.get(REF_NAME)));
  const [name, ...others] = names;
  if (name === undefined || others.length > 0) return undefined;
  return /(?:^|:)(\w[\w.-]{0,127})$/.exec(name)?.[1];
}
