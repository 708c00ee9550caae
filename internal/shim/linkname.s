// Its being here lets a function without a body compile, which the linker then finds.
