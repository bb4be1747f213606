struct x { size_t n; };
