// The formats that a model can be had in, and what each is good for.

const USES = {
  glb: "Blender, games",
  stl: "3D printing",
  "3mf": "printing in colour",
  obj: "3D programs",
  ply: "MeshLab, scans",
};
let names = Object.keys(USES);

/** Those that the server offers, as far as it has said so. */
export const formats = () => names;

export const useOf = (format) => USES[format] ?? "";

/** The server offers these; true when that is news. */
export function offerFormats(offered) {
  const known = Object.keys(USES);
  const now = [...known.filter((each) => offered.includes(each)), ...offered.filter((each) => !known.includes(each))];
  if (!now.length || now.join() === names.join()) return false;
  names = now;
  return true;
}
