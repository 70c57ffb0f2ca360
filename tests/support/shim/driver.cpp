// The part of the CUDA driver API that kernels/launch.py calls, over the shim. `shim_*` functions steer it from tests.
#include <cstring>
#include <map>
#include <string>

namespace {

// How the pretended machine behaves, and what it was asked to do.
int driver_version = 12080;
int rejected_images = 0;
bool context_is_current = true;
int kernels_loaded = 0, launches = 0;
void* last_stream = nullptr;

enum Result { SUCCESS = 0, INVALID_VALUE = 1, INVALID_IMAGE = 200, NO_BINARY = 209, NOT_FOUND = 500 };

}  // namespace

#define API extern "C" int

API cuInit(unsigned) { return SUCCESS; }

API cuDriverGetVersion(int* version) {
    *version = driver_version;
    return SUCCESS;
}

API cuGetErrorString(int error, const char** text) {
    *text = error == INVALID_IMAGE ? "device kernel image is invalid"
            : error == NO_BINARY   ? "no kernel image is available for execution on the device"
                                   : "pretended error";
    return SUCCESS;
}

API cuCtxGetCurrent(void** context) {
    *context = context_is_current ? (void*)1 : nullptr;
    return SUCCESS;
}

API cuDeviceGet(int* device, int ordinal) {
    *device = ordinal;
    return SUCCESS;
}

API cuDevicePrimaryCtxRetain(void** context, int) {
    *context = (void*)1;
    return SUCCESS;
}

API cuCtxSetCurrent(void* context) {
    context_is_current = context != nullptr;
    return SUCCESS;
}

// A cubin is an ELF file; PTX is text that names its version. Both were really built, only not for this machine.
API cuLibraryLoadData(void** library, const void* image, void*, void*, unsigned, void*, void*, unsigned) {
    if (rejected_images > 0) {
        --rejected_images;
        return NO_BINARY;
    }
    const bool cubin = std::memcmp(image, "\x7f" "ELF", 4) == 0;
    if (!cubin && !std::strstr((const char*)image, ".version 8.7")) return INVALID_IMAGE;
    *library = (void*)(uintptr_t)(cubin ? 1 : 2);
    return SUCCESS;
}

API cuLibraryGetKernel(void** kernel, void*, const char* name) {
    for (const shim::Entry* entry = shim_entries; entry->name; ++entry) {
        if (std::strcmp(entry->name, name) == 0) {
            *kernel = (void*)entry;
            return SUCCESS;
        }
    }
    return NOT_FOUND;
}

API cuKernelGetFunction(void** function, void* kernel) {
    if (!context_is_current) return 201;
    ++kernels_loaded;
    *function = kernel;
    return SUCCESS;
}

API cuLaunchKernel(void* kernel, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y,
                   unsigned block_z, unsigned shared_bytes, void* stream, void** parameters, void** extra) {
    if (!context_is_current) return 201;
    if (extra || !grid_x || !grid_y || !grid_z) return INVALID_VALUE;
    last_stream = stream;
    ++launches;
    shim::launch(((const shim::Entry*)kernel)->call, parameters, {grid_x, grid_y, grid_z}, {block_x, block_y, block_z},
                 shared_bytes);
    return SUCCESS;
}

API shim_configure(int version, int reject, int current) {
    driver_version = version, rejected_images = reject, context_is_current = current != 0;
    return SUCCESS;
}

API shim_reverse(int reversed) {
    shim::reversed = reversed != 0;
    return SUCCESS;
}

extern "C" int64_t shim_count(int what) {
    return what == 0 ? kernels_loaded : what == 1 ? launches : (int64_t)last_stream;
}
