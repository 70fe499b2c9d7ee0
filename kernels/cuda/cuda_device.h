// The CUDA device of this machine.
#pragma once

#include <memory>
#include <string>

#include "kernels/cuda/device.h"

namespace holdfast::kernels::cuda {

// The first CUDA device (CUDA_VISIBLE_DEVICES says which that is). Null, with a line that says why,
// when there is none, the driver is too old, or the build has no CUDA.
std::unique_ptr<Device> OpenCudaDevice(std::string* why_not);

}  // namespace holdfast::kernels::cuda
