// The structs that the BPF programs share with the addon.
#pragma once

#include <linux/types.h>

#include "bpf/events.h"
#include "bpf/socket_state.h"
