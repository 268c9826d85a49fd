#pragma once

// Marks arithmetic that the CPU and CUDA kernels share.
#ifdef __CUDACC__
#define REPQ_FX_HOST_DEVICE __host__ __device__
#else
#define REPQ_FX_HOST_DEVICE
#endif
