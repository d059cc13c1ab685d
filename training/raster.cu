// Views of many shapes at once, one launch for each step: CUDA for training, plain C++ for the test of the same code.
// `raster.py` puts the sizes and the places of the parameters (AT_…) in front. A view's parameters are FLOATS floats.

#ifdef __CUDACC__
#define DEVICE __device__ __forceinline__
#define SYNC() __syncthreads()
#else
#include <algorithm>
#include <cmath>
#include <cstring>
#define DEVICE static inline
#define SYNC()
using std::max;
using std::min;
#endif

typedef unsigned long long u64;
typedef unsigned int u32;

struct V3 {
    float x, y, z;
};
struct Shape {
    const float* points;           // (vertices,3)
    const int* faces;              // (triangles,3)
    const unsigned char* colours;  // (triangles,3,3), one for each corner
    long long vertices, triangles;
};

DEVICE V3 v3(const float* p) { return {p[0], p[1], p[2]}; }
DEVICE V3 operator+(V3 a, V3 b) { return {a.x + b.x, a.y + b.y, a.z + b.z}; }
DEVICE V3 operator-(V3 a, V3 b) { return {a.x - b.x, a.y - b.y, a.z - b.z}; }
DEVICE V3 operator*(V3 a, float s) { return {a.x * s, a.y * s, a.z * s}; }
DEVICE float dot(V3 a, V3 b) { return a.x * b.x + a.y * b.y + a.z * b.z; }
DEVICE V3 cross(V3 a, V3 b) { return {a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x}; }
DEVICE V3 unit(V3 a) { return a * (1.0f / fmaxf(sqrtf(dot(a, a)), 1e-20f)); }

DEVICE u32 bits(float value) {
#ifdef __CUDACC__
    return __float_as_uint(value);
#else
    u32 found;
    memcpy(&found, &value, 4);
    return found;
#endif
}
DEVICE float number(u32 value) {
#ifdef __CUDACC__
    return __uint_as_float(value);
#else
    float found;
    memcpy(&found, &value, 4);
    return found;
#endif
}
template <class T> DEVICE void raise(T* at, T value) {
#ifdef __CUDACC__
    if (*(volatile T*)at < value) atomicMax(at, value);
#else
    *at = max(*at, value);
#endif
}
DEVICE void lower(u32* at, u32 value) {
#ifdef __CUDACC__
    if (*(volatile u32*)at > value) atomicMin(at, value);
#else
    *at = min(*at, value);
#endif
}
DEVICE void add(float* at, float value) {
#ifdef __CUDACC__
    atomicAdd(at, value);
#else
    *at += value;
#endif
}

// Over a block of n threads, all of which get it; `shared` has room for 32.
DEVICE float summed(float value, float* shared, int t, int n) {
#ifdef __CUDACC__
    for (int s = 16; s; s >>= 1) value += __shfl_xor_sync(~0u, value, s);
    __syncthreads();
    if ((t & 31) == 0) shared[t >> 5] = value;
    __syncthreads();
    value = 0;
    for (int i = 0; i < n / 32; i++) value += shared[i];
#endif
    return value;
}
DEVICE float highest(float value, float* shared, int t, int n) {
#ifdef __CUDACC__
    for (int s = 16; s; s >>= 1) value = fmaxf(value, __shfl_xor_sync(~0u, value, s));
    __syncthreads();
    if ((t & 31) == 0) shared[t >> 5] = value;
    __syncthreads();
    value = shared[0];
    for (int i = 1; i < n / 32; i++) value = fmaxf(value, shared[i]);
#endif
    return value;
}

DEVICE V3 deformed(V3 p, const float* a) {
    float high = p.y * 0.5f, taper = 1 + 0.6f * a[AT_TAPER] * high;
    p.x *= taper;
    p.z *= taper;
    float angle = 0.8f * a[AT_TWIST] * high, c = cosf(angle), s = sinf(angle);
    p = {c * p.x + s * p.z, p.y, c * p.z - s * p.x};
    p.x += a[AT_BEND] * high * high;
    p.z += a[AT_BEND + 1] * high * high;
    V3 by = {0, 0, 0};
    for (int i = 0; i < WAVES; i++) {
        const float* wave = a + AT_WAVES + 7 * i;
        by = by + v3(wave + 4) * sinf(dot(v3(wave), p) + wave[3]);
    }
    p = p + by;
    return {p.x * a[AT_SCALE], p.y * a[AT_SCALE + 1], p.z * a[AT_SCALE + 2]};
}
DEVICE V3 turned(const float* r, V3 p) { return {dot(v3(r), p), dot(v3(r + 3), p), dot(v3(r + 6), p)}; }

// Vertices deformed, turned and placed as render.placement() does: one block of n threads for a view.
DEVICE void place(int view, int t, int n, const Shape* shapes, const int* which, const float* parameters, float* placed,
                  float* shared) {
    Shape shape = shapes[which[view]];
    const float* a = parameters + (long long)view * FLOATS;
    float* out = placed + (long long)view * ROOM * 3;
    float camera = a[AT_CAMERA];
    int count = (int)min(shape.vertices, (long long)ROOM);
    float low[3] = {1e9f, 1e9f, 1e9f}, high[3] = {-1e9f, -1e9f, -1e9f};
    for (int i = t; i < count; i += n) {
        V3 p = turned(a + AT_ROTATION, deformed(v3(shape.points + 3 * i), a));
        float q[3] = {p.x, p.y, p.z};
        for (int k = 0; k < 3; k++) {
            out[3 * i + k] = q[k];
            low[k] = fminf(low[k], q[k]);
            high[k] = fmaxf(high[k], q[k]);
        }
    }
    for (int k = 0; k < 3; k++) {
        low[k] = -highest(-low[k], shared, t, n);
        high[k] = highest(high[k], shared, t, n);
    }
    float scale = 2 * FILL / fmaxf(fmaxf(high[0] - low[0], high[1] - low[1]), 1e-6f);
    V3 shift = V3{low[0] + high[0], low[1] + high[1], low[2] + high[2]} * (-0.5f * scale);
    for (int round = 0; round < 4; round++) {
        float l[2] = {1e9f, 1e9f}, h[2] = {-1e9f, -1e9f};
        for (int i = t; i < count; i += n) {
            V3 p = v3(out + 3 * i) * scale + shift;
            float k = camera / fmaxf(camera - p.z, 0.3f);
            l[0] = fminf(l[0], p.x * k), h[0] = fmaxf(h[0], p.x * k);
            l[1] = fminf(l[1], p.y * k), h[1] = fmaxf(h[1], p.y * k);
        }
        for (int k = 0; k < 2; k++) {
            l[k] = -highest(-l[k], shared, t, n);
            h[k] = highest(h[k], shared, t, n);
        }
        float by = 2 * FILL / fmaxf(fmaxf(h[0] - l[0], h[1] - l[1]), 1e-6f);
        shift = (shift - V3{(l[0] + h[0]) / 2, (l[1] + h[1]) / 2, 0}) * by;
        scale *= by;
    }
    for (int i = t; i < count; i += n) {
        V3 p = v3(out + 3 * i) * scale + shift;
        out[3 * i] = p.x, out[3 * i + 1] = p.y, out[3 * i + 2] = fminf(p.z, camera - 0.3f);
    }
}

// The facets' normals, longer for larger ones, summed at each vertex.
DEVICE void bend(int view, int face, const Shape& shape, const float* placed, float* normals) {
    const int* corner = shape.faces + 3 * face;
    const float* from = placed + (long long)view * ROOM * 3;
    float* to = normals + (long long)view * ROOM * 3;
    V3 a = v3(from + 3 * corner[0]);
    V3 across = cross(v3(from + 3 * corner[1]) - a, v3(from + 3 * corner[2]) - a);
    for (int k = 0; k < 3; k++) {
        add(to + 3 * corner[k], across.x);
        add(to + 3 * corner[k] + 1, across.y);
        add(to + 3 * corner[k] + 2, across.z);
    }
}

struct Triangle {
    float x[3], y[3], w[3];  // in the window; w = 1 / distance from the camera along z, which is affine in x and y
};
DEVICE Triangle seen(int view, const int* corner, const float* placed, float camera) {
    Triangle found;
    for (int k = 0; k < 3; k++) {
        V3 p = v3(placed + ((long long)view * ROOM + corner[k]) * 3);
        found.w[k] = 1 / (camera - p.z);
        found.x[k] = p.x * camera * found.w[k];
        found.y[k] = p.y * camera * found.w[k];
    }
    return found;
}
// The share of each corner at (x, y) in the window; false outside.
DEVICE bool shares(const Triangle& of, float area, float x, float y, float* share) {
    for (int k = 0; k < 3; k++) {
        int i = (k + 1) % 3, j = (k + 2) % 3;
        share[k] = ((of.x[i] - x) * (of.y[j] - y) - (of.x[j] - x) * (of.y[i] - y)) / area;
    }
    return fminf(fminf(share[0], share[1]), share[2]) >= -1e-5f;
}
DEVICE float area(const Triangle& of) {
    return (of.x[1] - of.x[0]) * (of.y[2] - of.y[0]) - (of.x[2] - of.x[0]) * (of.y[1] - of.y[0]);
}

// One triangle into both grids, by `lanes` threads: `first` (S,S) and `last` (S,S) 1 / distance, nearest and farthest;
// `fine` (2S,2S) the nearest with its triangle.
DEVICE void fill(int view, int face, int lane, int lanes, const Shape& shape, const float* placed, float camera,
                 u32* first, u32* last, u64* fine) {
    Triangle triangle = seen(view, shape.faces + 3 * face, placed, camera);
    float size = area(triangle);
    if (fabsf(size) < 1e-12f) return;
    for (int grid = SIZE; grid <= 2 * SIZE; grid *= 2) {
        float low[2], high[2], half = grid / 2.0f;
        low[0] = fminf(fminf(triangle.x[0], triangle.x[1]), triangle.x[2]);
        high[0] = fmaxf(fmaxf(triangle.x[0], triangle.x[1]), triangle.x[2]);
        low[1] = -fmaxf(fmaxf(triangle.y[0], triangle.y[1]), triangle.y[2]);
        high[1] = -fminf(fminf(triangle.y[0], triangle.y[1]), triangle.y[2]);
        int begin[2], end[2];
        for (int k = 0; k < 2; k++) {
            begin[k] = max((int)ceilf((low[k] + 1) * half - 0.5f - 1e-3f), 0);
            end[k] = min((int)floorf((high[k] + 1) * half - 0.5f + 1e-3f), grid - 1);
        }
        int wide = end[0] - begin[0] + 1, tall = end[1] - begin[1] + 1;
        if (wide <= 0 || tall <= 0) continue;
        for (int i = lane; i < wide * tall; i += lanes) {
            int column = begin[0] + i % wide, row = begin[1] + i / wide;
            float share[3];
            if (!shares(triangle, size, (column + 0.5f) / half - 1, 1 - (row + 0.5f) / half, share)) continue;
            float w = share[0] * triangle.w[0] + share[1] * triangle.w[1] + share[2] * triangle.w[2];
            u32 key = bits(w);
            if (grid == SIZE) {
                long long at = ((long long)view * SIZE + row) * SIZE + column;
                raise(first + at, key);
                lower(last + at, key);
            } else {
                raise(fine + ((long long)view * 2 * SIZE + row) * 2 * SIZE + column, (u64)key << 32 | (u32)face);
            }
        }
    }
}

DEVICE V3 painted(V3 colour, V3 at, const float* a, const unsigned char* sheets) {
    const float* paint = a + AT_PAINT;  // how much of it, two colours, a direction
    float way = dot(v3(paint + 7), at) * 0.5f + 0.5f;
    way = fminf(fmaxf(way, 0.0f), 1.0f);
    V3 gradient = v3(paint + 1) * (1 - way) + v3(paint + 4) * way;
    colour = {colour.x * a[AT_GAIN] + a[AT_OFFSET], colour.y * a[AT_GAIN + 1] + a[AT_OFFSET + 1],
              colour.z * a[AT_GAIN + 2] + a[AT_OFFSET + 2]};
    colour = colour * (1 - paint[0]) + gradient * paint[0];
    const float* print = a + AT_PRINT;  // strength, sheet, whether wrapped around, repeats, two directions
    if (print[0] > 0) {
        float u = dot(v3(print + 4), at), v = dot(v3(print + 7), at);
        if (print[2] > 0) u = atan2f(at.x, at.z) / 3.14159265f, v = at.y;
        u = u * print[3] + 0.5f * print[3];
        v = v * print[3] + 0.5f * print[3];
        int column = min((int)((u - floorf(u)) * SHEET), SHEET - 1), row = min((int)((v - floorf(v)) * SHEET), SHEET - 1);
        const unsigned char* ink = sheets + (((long long)print[1] * SHEET + row) * SHEET + column) * 4;
        float share = print[0] * ink[3] / 255.0f;
        colour = colour * (1 - share) + V3{ink[0] / 255.0f, ink[1] / 255.0f, ink[2] / 255.0f} * share;
    }
    return colour;
}

// One pixel of S × S from its four of 2S × 2S.
DEVICE void resolve(int view, int pixel, const Shape& shape, const float* a, const float* placed, const float* normals,
                    const unsigned char* sheets, const u64* fine, float* cover, float* normal, float* albedo) {
    int row = pixel / SIZE, column = pixel % SIZE;
    float covered = 0, camera = a[AT_CAMERA];
    V3 facing = {0, 0, 0}, colour = {0, 0, 0};
    for (int part = 0; part < 4; part++) {
        int r = 2 * row + part / 2, c = 2 * column + part % 2;
        u64 key = fine[((long long)view * 2 * SIZE + r) * 2 * SIZE + c];
        if (!key) continue;
        int face = (int)(u32)key;
        const int* corner = shape.faces + 3 * face;
        Triangle triangle = seen(view, corner, placed, camera);
        float x = (c + 0.5f) / SIZE - 1, y = 1 - (r + 0.5f) / SIZE, share[3];
        shares(triangle, area(triangle), x, y, share);
        float total = 0;
        for (int k = 0; k < 3; k++) total += share[k] *= triangle.w[k];
        V3 p[3], at = {0, 0, 0}, own = {0, 0, 0}, mixed = {0, 0, 0};
        for (int k = 0; k < 3; k++) p[k] = v3(placed + ((long long)view * ROOM + corner[k]) * 3);
        V3 flat = unit(cross(p[1] - p[0], p[2] - p[0]));
        for (int k = 0; k < 3; k++) {
            share[k] /= total;
            const unsigned char* tint = shape.colours + 9 * face + 3 * k;
            at = at + v3(shape.points + 3 * corner[k]) * share[k];
            own = own + V3{tint[0] / 255.0f, tint[1] / 255.0f, tint[2] / 255.0f} * share[k];
            V3 smooth = unit(v3(normals + ((long long)view * ROOM + corner[k]) * 3));
            mixed = mixed + (dot(smooth, flat) > a[AT_CREASE] ? smooth : flat) * share[k];
        }
        mixed = unit(mixed);
        if (dot(mixed, V3{x, y, -camera}) > 0) mixed = mixed * -1;
        facing = facing + mixed;
        colour = colour + painted(own, at, a, sheets);
        covered += 1;
    }
    long long at = (long long)view * SIZE * SIZE + pixel;
    cover[at] = covered / 4;
    facing = unit(facing);
    colour = colour * (1 / fmaxf(covered, 1.0f));
    normal[3 * at] = facing.x, normal[3 * at + 1] = facing.y, normal[3 * at + 2] = facing.z;
    albedo[3 * at] = fminf(fmaxf(colour.x, 0.0f), 1.0f), albedo[3 * at + 1] = fminf(fmaxf(colour.y, 0.0f), 1.0f),
                albedo[3 * at + 2] = fminf(fmaxf(colour.z, 0.0f), 1.0f);
}

DEVICE float crossing(float inside, float outside) { return fminf(fmaxf(inside / (inside - outside), 0.05f), 0.95f); }

// inflation.inflate() of a field (S,S): conjugate gradients by one block of n threads; `shared`: 32 + 4·S² floats.
DEVICE void inflate(int view, int t, int n, const float* fields, float* heights, float* shared) {
    const int all = SIZE * SIZE, steps[4] = {-1, 1, -SIZE, SIZE};
    const float* field = fields + (long long)view * all;
    float *x = shared + 32, *rest = x + all, *way = rest + all, *inverse = way + all;
    float energy = 0;
    for (int i = t; i < all; i += n) {
        bool inside = field[i] > 0;  // never at the border
        float diagonal = 0;
        if (inside)
            for (int k = 0; k < 4; k++) {
                float beside = field[i + steps[k]];
                diagonal += beside > 0 ? 1 : 1 / crossing(field[i], beside);
            }
        x[i] = 0;
        rest[i] = inside ? 4 : 0;
        inverse[i] = inside ? 1 / diagonal : 0;
        way[i] = rest[i] * inverse[i];
        energy += rest[i] * way[i];
    }
    energy = summed(energy, shared, t, n);
    float goal = 1e-5f * energy;
    for (int round = 0; round < 4 * SIZE && energy > goal; round++) {
        SYNC();
        float curve = 0;
        for (int i = t; i < all; i += n)
            if (inverse[i] > 0)
                curve += way[i] * (way[i] / inverse[i] - way[i - 1] - way[i + 1] - way[i - SIZE] - way[i + SIZE]);
        float step = energy / fmaxf(summed(curve, shared, t, n), 1e-20f), after = 0;
        for (int i = t; i < all; i += n)
            if (inverse[i] > 0) {
                x[i] += step * way[i];
                rest[i] -= step * (way[i] / inverse[i] - way[i - 1] - way[i + 1] - way[i - SIZE] - way[i + SIZE]);
                after += rest[i] * rest[i] * inverse[i];
            }
        after = summed(after, shared, t, n);
        float turn = after / energy;
        for (int i = t; i < all; i += n)
            if (inverse[i] > 0) way[i] = rest[i] * inverse[i] + turn * way[i];
        energy = after;
    }
    SYNC();
    for (int i = t; i < all; i += n)
        heights[(long long)view * all + i] =
            field[i] > 0 ? fmaxf(sqrtf(fmaxf(x[i], 0.0f)), 0.05f) * (2.0f / SIZE) : 0;
}

#ifdef __CUDACC__
extern "C" {
__global__ void place_all(const Shape* shapes, const int* which, const float* parameters, float* placed) {
    __shared__ float shared[32];
    place(blockIdx.x, threadIdx.x, blockDim.x, shapes, which, parameters, placed, shared);
}
__global__ void bend_all(const Shape* shapes, const int* which, const float* placed, float* normals) {
    Shape shape = shapes[which[blockIdx.y]];
    for (int face = blockIdx.x * blockDim.x + threadIdx.x; face < shape.triangles; face += gridDim.x * blockDim.x)
        bend(blockIdx.y, face, shape, placed, normals);
}
__global__ void fill_all(const Shape* shapes, const int* which, const float* parameters, const float* placed, u32* first,
                         u32* last, u64* fine) {
    Shape shape = shapes[which[blockIdx.y]];
    float camera = parameters[(long long)blockIdx.y * FLOATS + AT_CAMERA];
    int lane = threadIdx.x & 31, warps = gridDim.x * blockDim.x / 32;
    for (int face = (blockIdx.x * blockDim.x + threadIdx.x) / 32; face < shape.triangles; face += warps)
        fill(blockIdx.y, face, lane, 32, shape, placed, camera, first, last, fine);
}
__global__ void resolve_all(const Shape* shapes, const int* which, const float* parameters, const float* placed,
                            const float* normals, const unsigned char* sheets, const u64* fine, float* cover,
                            float* normal, float* albedo) {
    int pixel = blockIdx.x * blockDim.x + threadIdx.x;
    if (pixel < SIZE * SIZE)
        resolve(blockIdx.y, pixel, shapes[which[blockIdx.y]], parameters + (long long)blockIdx.y * FLOATS, placed, normals,
                sheets, fine, cover, normal, albedo);
}
__global__ void inflate_all(const float* fields, float* heights) {
    extern __shared__ float shared[];
    inflate(blockIdx.x, threadIdx.x, blockDim.x, fields, heights, shared);
}
}
#else
extern "C" void all_on_cpu(int views, const Shape* shapes, const int* which, const float* parameters,
                           const unsigned char* sheets, float* placed, float* normals, u32* first, u32* last, u64* fine,
                           float* cover, float* normal, float* albedo) {
    for (int view = 0; view < views; view++) {
        Shape shape = shapes[which[view]];
        const float* a = parameters + (long long)view * FLOATS;
        place(view, 0, 1, shapes, which, parameters, placed, nullptr);
        for (int face = 0; face < shape.triangles; face++) bend(view, face, shape, placed, normals);
        for (int face = 0; face < shape.triangles; face++)
            fill(view, face, 0, 1, shape, placed, a[AT_CAMERA], first, last, fine);
        for (int pixel = 0; pixel < SIZE * SIZE; pixel++)
            resolve(view, pixel, shape, a, placed, normals, sheets, fine, cover, normal, albedo);
    }
}
extern "C" void inflate_on_cpu(int views, const float* fields, float* heights, float* shared) {
    for (int view = 0; view < views; view++) inflate(view, 0, 1, fields, heights, shared);
}
#endif
