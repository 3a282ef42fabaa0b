#include "error.h"

#include <system_error>

namespace kvtier {

std::string ErrnoText(int error) { return std::generic_category().message(error); }

}  // namespace kvtier
