build-address/base/error.o: base/error.c base/error.h pymigrate.h
base/error.h:
pymigrate.h:
