// Of a build without nvcc.
#include "kernels/cuda/cuda_device.h"

namespace holdfast::kernels::cuda {

std::unique_ptr<Device> OpenCudaDevice(std::string* why_not) {
  *why_not = "built without CUDA";
  return nullptr;
}

}  // namespace holdfast::kernels::cuda
