# As it was before: every image, its parent and its two tags are written down by hand.
variable "TAG" {
  default = "latest"
}

group "default" {
  targets = ["runtime", "compiler", "service", "worker"]
}

target "common" {
  platforms = ["linux/amd64", "linux/arm64"]
  args = {
    VERSION = "1.4"
  }
}

target "runtime" {
  inherits = ["common"]
  context  = "runtime"
  tags     = ["registry.example.com/acme/runtime:${TAG}"]
}

target "compiler" {
  inherits = ["common"]
  context  = "compiler"
  contexts = {
    runtime = "target:runtime"
  }
  tags = ["registry.example.com/acme/compiler:${TAG}"]
}

target "service" {
  inherits = ["common"]
  context  = "service"
  contexts = {
    compiler = "target:compiler"
    runtime  = "target:runtime"
  }
  tags = ["registry.example.com/acme/service:${TAG}"]
}

target "worker" {
  inherits  = ["common"]
  context   = "service"
  target    = "worker"
  platforms = ["linux/amd64"]
  contexts = {
    compiler = "target:compiler"
    runtime  = "target:runtime"
  }
  tags = ["registry.example.com/acme/worker:${TAG}"]
}
