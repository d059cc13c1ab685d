// The formats that a model can be had in, and what each is good for.

export const FORMATS = {
  glb: "Blender, games",
  stl: "3D printing",
  "3mf": "printing in colour",
  obj: "3D programs",
  ply: "MeshLab, scans",
};
