import { tarHeader } from '../../helpers/layers/tar-blocks.ts';
import type { Dice } from '../dice.ts';
import { pickNumber } from './interesting.ts';
import { repairChecksum } from './tar-fields.ts';

const KEYS = [
  'path',
  'linkpath',
  'size',
  'uid',
  'gid',
  'uname',
  'gname',
  'mtime',
  'atime',
  'ctime',
  'comment',
  'hdrcharset',
  'SCHILY.xattr.user.a',
  'SCHILY.xattr.security.capability',
  'LIBARCHIVE.xattr.a',
  '',
  '=',
  'GNU.sparse.name',
  'GNU.sparse.major',
  'GNU.sparse.minor',
  'GNU.sparse.size',
  'GNU.sparse.realsize',
  'GNU.sparse.map',
  'GNU.sparse.numblocks',
  'GNU.sparse.offset',
  'GNU.sparse.numbytes',
];
/** Enough to make a backtracking regular expression too slow. */
const LONG = [10, 100, 600, 2000, 5000, 200_000] as const;
const MAX_RECORDS_BYTES = 300_000;

/** Blocks before an entry: a PAX header, GNU long names, or a sparse file. */
export function makeExtension(dice: Dice): Buffer {
  switch (dice.below(8)) {
    case 0:
      return special('L', text(dice));
    case 1:
      return special('K', text(dice));
    case 2:
      return gnuSparse(dice);
    case 3:
      return paxSparse(dice);
    case 4:
      return special('g', records(dice));
    default:
      return special('x', records(dice));
  }
}

function special(typeflag: string, data: Buffer, size = data.length): Buffer {
  const padding = Buffer.alloc((512 - (data.length % 512)) % 512);
  return Buffer.concat([tarHeader({ name: '././@LongLink', typeflag, size }), data, padding]);
}

function text(dice: Dice): Buffer {
  const unit = dice.pick(['a', 'a/', '../', '\xff', '/', './', 'a\0', '']);
  return Buffer.from(unit.repeat(dice.pick(LONG)).slice(0, 300_000), 'latin1');
}

function records(dice: Dice): Buffer {
  const count = dice.chance(0.02) ? dice.skewed(20_000) : dice.few(6);
  const all: string[] = [];
  let bytes = 0;
  for (let index = 0; index < count && bytes < MAX_RECORDS_BYTES; index++) {
    const next = record(dice, dice.pick(KEYS), value(dice));
    all.push(next);
    bytes += next.length;
  }
  return Buffer.from(all.join(''), 'latin1');
}

/** `<length> <key>=<value>\n`, mostly with the right length. */
function record(dice: Dice, key: string, content: string): string {
  const rest = ` ${key}=${content}\n`;
  let length = rest.length + 1;
  while (String(length).length + rest.length !== length) length = String(length).length + rest.length;
  if (dice.chance(0.9)) return `${length}${rest}`;
  const wrong = [
    String(length + dice.between(-2, 2)),
    String(pickNumber(dice)),
    `+${length}`,
    `${'0'.repeat(dice.pick(LONG))}${length}`,
    `${'0'.repeat(dice.pick(LONG))}x`,
    '9'.repeat(dice.pick(LONG)),
    '',
    '-1',
  ];
  return `${dice.pick(wrong)}${dice.pick([rest, rest.slice(0, -1), rest.replace('=', '')])}`;
}

function value(dice: Dice): string {
  const forms = [
    () => String(dice.skewed(2 ** 33)),
    () => String(pickNumber(dice)),
    () => `${dice.skewed(2 ** 40)}.${String(dice.below(10)).repeat(dice.pick([0, 1, 9, 10, 600, 100_000]))}`,
    () => `${dice.pick(['', '-', '+', '.'])}${dice.below(1000)}${dice.pick(['', '.', '.5', '-', 'x', ' '])}`,
    () => '0'.repeat(dice.pick(LONG)) + dice.pick(['', '1', 'x']),
    () => text(dice).toString('latin1'),
    () => '',
    () => dice.bytes(dice.skewed(300)).toString('latin1'),
  ];
  return dice.pick(forms)();
}

function gnuSparse(dice: Dice): Buffer {
  const isExtended = dice.chance(0.6);
  const header = tarHeader({
    name: 'sparse',
    typeflag: 'S',
    size: dice.below(2000),
    isGnu: dice.chance(0.9),
    isExtended,
  });
  header.write(
    dice
      .skewed(2 ** 30)
      .toString(8)
      .padStart(11, '0'),
    483,
  );
  repairChecksum(header);
  const extensions = Array.from({ length: isExtended ? dice.few(8) : 0 }, () => {
    const block = Buffer.alloc(512, '0');
    block[504] = dice.below(2);
    return block;
  });
  return Buffer.concat([header, ...extensions]);
}

/** Formats 0.0, 0.1 and 1.0, with fitting and other maps. */
function paxSparse(dice: Dice): Buffer {
  const regions = Array.from(
    { length: dice.chance(0.02) ? dice.skewed(40_000) : dice.below(6) },
    (_, index) => [1000 * index, dice.skewed(1200)],
  );
  const size = ['GNU.sparse.size', String(dice.chance(0.7) ? 2 ** 31 : pickNumber(dice))] as const;
  const count = [
    'GNU.sparse.numblocks',
    String(dice.chance(0.7) ? regions.length : pickNumber(dice)),
  ] as const;
  const pairs = regions.flatMap(([offset, length]): [string, string][] => [
    ['GNU.sparse.offset', String(offset)],
    ['GNU.sparse.numbytes', String(length)],
  ]);
  const version = dice.below(3);
  const list = [
    [['GNU.sparse.major', '0'], ['GNU.sparse.minor', '0'], size, count, ...pairs],
    [
      ['GNU.sparse.major', '0'],
      ['GNU.sparse.minor', '1'],
      size,
      count,
      ['GNU.sparse.map', regions.flat().join(',')],
    ],
    [
      ['GNU.sparse.major', '1'],
      ['GNU.sparse.minor', '0'],
      ['GNU.sparse.realsize', size[1]],
    ],
  ][version] as (readonly [string, string])[];
  const pax = special(
    'x',
    Buffer.from(list.map(([key, text]) => record(dice, key, text)).join(''), 'latin1'),
  );
  if (version < 2) return pax;
  const map = Buffer.from([count[1], ...regions.flat()].map((number) => `${number}\n`).join(''));
  const padding = Buffer.alloc((512 - (map.length % 512)) % 512, dice.pick([0, 0x0a, 0x30]));
  return Buffer.concat([pax, tarHeader({ name: 'sparse', size: map.length + padding.length }), map, padding]);
}
