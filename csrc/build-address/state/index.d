build-address/state/index.o: state/index.c state/state.h pymigrate.h \
 base/error.h
state/state.h:
pymigrate.h:
base/error.h:
